"""One self-contained HTML page about runs: charts, pictures of filters, configuration.

Nothing in it is fetched from anywhere, and every text from a run file is escaped.
"""

from __future__ import annotations

from analysis.report.page import page as page
from analysis.report.sections import PageSettings as PageSettings
from analysis.report.sections import overview as overview
from analysis.report.sections import study_section as study_section
from analysis.report.sections import training_section as training_section
