"""The report and the preference page in a browser, and the scores of saved answers."""

import html
import json
import math
import re
import shutil
import subprocess

import pytest

import test as test_command
from comparison import preference
from comparison.preference import bradley_terry
from tests.conftest import call, refusal

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
in_browser = pytest.mark.skipif(BROWSER is None, reason="needs chromium")


def shown(page: str, tmp_path, width: int = 1280) -> str:
    """Return the document as it is after its scripts, at a width in pixels."""
    inner = html.escape(page, quote=True)
    frame = f'<iframe id="f" width="{width}" height="800" srcdoc="{inner}"></iframe>'
    copy = "<script>addEventListener('load', () => { document.title = f.contentDocument.title; "
    copy += "out.textContent = f.contentDocument.documentElement.outerHTML; f.remove(); })</script>"
    (tmp_path / "page.html").write_text(f"<!doctype html><pre id='out'></pre>{frame}{copy}")
    done = subprocess.run(
        [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
         "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
         f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=3000", "--dump-dom",
         f"file://{tmp_path / 'page.html'}"],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return html.unescape(done.stdout)


def title_of(document: str) -> str:
    found = re.search(r"<title>(.*?)</title>", document, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture
def evaluated(trained):
    assert call(test_command, trained) == (0, "")
    return trained


@in_browser
@pytest.mark.parametrize("width", [390, 1280])
def test_the_report_fits_its_window_loads_its_pictures_and_slides(evaluated, tmp_path, width):
    page = (evaluated / "test/report.html").read_text()
    probe = """<script>
    addEventListener("load", () => {
      const input = document.querySelector(".compare input");
      input.value = 20;
      input.dispatchEvent(new Event("input"));
      document.title = JSON.stringify({
        wide: document.documentElement.scrollWidth, window: innerWidth,
        share: input.parentElement.style.getPropertyValue("--share"),
        broken: [...document.images].filter((image) => !image.naturalWidth).length,
        images: document.images.length,
      });
    });</script>"""
    found = json.loads(title_of(shown(page + probe, tmp_path, width)))
    assert found["wide"] <= found["window"] == width
    assert found["share"] == "20%" and found["broken"] == 0 and found["images"] > 10


@in_browser
def test_answers_from_a_browser_become_scores(evaluated, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(evaluated, other)
    out = tmp_path / "page.html"
    preference.main([str(evaluated), str(other), f"out={out}"])
    page = out.read_text()
    assert str(other) not in page  # blind
    count = page.count('"direction":')
    assert count == 5  # three and two held-out images
    # Choose the second run's picture on whichever side it is; the first answer is taken back.
    probe = """<script>
    answer("tie"); element("back").click();
    for (const question of content.questions) answer(question.order[0] === 1 ? "left" : "right");
    document.title = JSON.stringify({ hidden: element("question").hidden, answers: saved() });
    </script>"""
    found = json.loads(title_of(shown(page + probe, tmp_path)))
    assert found["hidden"]
    (tmp_path / "answers.json").write_text(found["answers"])
    capsys.readouterr()
    preference.main([str(tmp_path / "answers.json")])
    best, worst = capsys.readouterr().out.splitlines()
    assert best.startswith(str(other)) and worst.startswith(str(evaluated))


def test_scores_are_the_log_odds_of_the_counts():
    scores = bradley_terry({("x", "y"): 29.5, ("y", "x"): 9.5})  # with the halves 30 to 10
    difference = scores["x"][0] - scores["y"][0]
    assert difference == pytest.approx(math.log(3), abs=1e-6)
    assert scores["x"][0] == pytest.approx(-scores["y"][0])
    assert scores["x"][1] == pytest.approx(1 / math.sqrt(40 * 0.75 * 0.25))


def test_scores_of_three_runs_are_recovered_from_their_expected_wins():
    true = {"x": 1.0, "y": 0.0, "z": -1.0}
    odds = {n: math.exp(s) for n, s in true.items()}
    wins = {(a, b): 100_000 * odds[a] / (odds[a] + odds[b]) for a in true for b in true if a != b}
    for name, (score, _) in bradley_terry(wins).items():
        assert score == pytest.approx(true[name], abs=1e-3)


def test_mistakes_name_the_path(trained, tmp_path):
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "b.json").write_text('{"answers": []}')
    assert "usage" in str(refusal(preference))
    for name in ("a.json", "b.json", "c.json"):  # not an answer file, without answers, missing
        assert refusal(preference, tmp_path / name).path == str(tmp_path / name)
    nowhere = tmp_path / "nowhere"
    for words in ([nowhere, trained], [trained, nowhere]):
        error = refusal(preference, *words)
        assert error.path in (str(trained), str(nowhere)) and "python test.py" in str(error)
