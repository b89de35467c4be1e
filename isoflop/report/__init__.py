"""The report: one self-contained HTML page that says whether the small runs predicted the big one, and shows why."""
