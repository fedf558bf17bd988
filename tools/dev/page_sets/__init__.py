"""Sets of pages that Chromium, a PDF library or Pango and Cairo set; see ``tools/README.md``."""
