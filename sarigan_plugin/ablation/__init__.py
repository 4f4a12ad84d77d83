"""Tables of trainings: what is in one, the job of one row, the report."""
