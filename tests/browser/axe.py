"""axe-core, which finds what keeps people from using a page."""

from __future__ import annotations

import shutil

from eventvault.settings import PROJECT
from tests import packages
from tests.kafka_process import locked

FOLDER = packages.TARGET / "ui"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
FIND = """
rules => axe.run(document, {runOnly: rules, resultTypes: ["violations"], selectors: false}).then(
  run => run.violations.map(each => [each.id, each.nodes.map(node => node.html.slice(0, 200))]))
"""
"""A JavaScript function that returns each broken rule, and where. axe works out nothing about the other rules."""


def source() -> str:
    """Return the script. Skip the test where it cannot be had."""
    packages.need("node", "npm")
    FOLDER.mkdir(parents=True, exist_ok=True)
    with locked(FOLDER / "axe.lock"):
        for name in ("package.json", "package-lock.json"):
            shutil.copy(PROJECT / "scripts" / "ui-packages" / name, FOLDER)
        packages.prepare(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], FOLDER)
        return (FOLDER / "node_modules" / "axe-core" / "axe.min.js").read_text()
