"""The files that are generated from the declaration of the settings."""

from __future__ import annotations

from pathlib import Path

from eventvault import settings, settings_docs

PROJECT = settings.PROJECT


def test_the_settings_page_is_what_the_declaration_says() -> None:
    assert (PROJECT / "docs" / "settings.md").read_text() == settings_docs.page(), "run: make docs"


def test_the_sample_environment_file_is_what_the_declaration_says() -> None:
    assert (PROJECT / ".env.example").read_text() == settings_docs.sample(), "run: make docs"


def test_both_pages_name_every_setting_with_its_default(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    settings_docs.write(tmp_path)
    page, sample = (tmp_path / "docs" / "settings.md").read_text(), (tmp_path / ".env.example").read_text()
    for each in settings.DECLARATIONS:
        assert f"| `{each.name}` | {f'`{each.default}`' if each.default else 'unset'} |" in page
        assert f"\n# {each.name}={each.default}\n" in sample


def test_the_sample_with_every_line_in_force_is_valid() -> None:
    lines = [line.removeprefix("# ") for line in settings_docs.sample().splitlines()]
    names = {each.name for each in settings.DECLARATIONS}
    values = dict(line.split("=", 1) for line in lines if line.partition("=")[0] in names)
    assert set(values) == names
    assert settings.load(values) == settings.load({})
