"""Under what the published weights may be used."""

WEIGHTS_LICENCE = "CC BY-NC-SA 4.0 (non-commercial)"
"""The licence of the official Res2Net weights, as their publisher states it in the Res2Net-PretrainedModels README."""
