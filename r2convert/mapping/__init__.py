"""Names to names: family tables, their expansion, identification, the conversion plan and its execution."""
