"""The report as one page of HTML; needs the packages of the extra ``[report]``."""
