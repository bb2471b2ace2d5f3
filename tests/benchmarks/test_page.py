from pathlib import Path

from benchmarks.page import write_section


def test_each_section_is_written_without_touching_the_others(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    write_section(page, "one", "## One\n\n1")
    write_section(page, "two", r"## Two \1")
    write_section(page, "one", "## One\n\n11")

    text = page.read_text()

    assert text.count("## One") == text.count("## Two") == 1
    assert text.index("11") < text.index(r"Two \1")
    assert text.startswith("# Benchmarks")
