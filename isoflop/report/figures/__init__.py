"""The figures of the report, one file per family; each function returns inline SVG."""
