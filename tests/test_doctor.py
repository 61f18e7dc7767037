"""The report for a bug report: complete, whatever is wrong, and without a key."""

from helpers import PROJECT_ROOT, doctor


def test_the_doctor_finds_no_problem_here_and_never_shows_a_key(monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_API_KEY", "planted-secret")
    assert doctor.main() == 0
    report = capsys.readouterr().out
    for line in (
        "torch",
        "memory",
        "disk",
        "encoder",
        "token map",
        "intact, LocalIDFPooling(sharpness=5.0, ",
        "notices: 384 passages, ",
        "key found",
        "charts",
    ):
        assert line in report
    assert "planted" not in report and str(PROJECT_ROOT) not in report


def test_the_doctor_reports_a_problem_instead_of_stopping(monkeypatch, capsys):
    monkeypatch.setenv("EMBEDDINGS_DEVICE", "gpu")
    assert doctor.main() == 1
    assert "PROBLEM: ValueError: EMBEDDINGS_DEVICE" in capsys.readouterr().out
