"""The blind study: what raters are shown, what is kept of their answers, and what is counted."""

import dataclasses
import json
import re
import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from errors import raises
from jobs import SETTINGS, Command, as_options
from lookforward.study.create import as_png
from lookforward.study.findings import study_sections, unreliable_raters, win_counts
from lookforward.study.plan import plan_places
from lookforward.study.raters import Raters
from lookforward.study.statistics import Answers, bradley_terry, failed_repeats, fleiss_kappa, shares
from lookforward.study.store import StudyFile, StudyPlan

METHODS = ["dreambooth", "look-forward"]
PLAN = StudyPlan(METHODS, ["a", "b"], {"dog": [f"a {{}} number {i}" for i in range(8)]}, 8, 0, 0, 3, "1")


def make_study(path: Path, plan: StudyPlan = PLAN) -> StudyFile:
    """A study of one subject whose images are of one colour: red for the first method, blue for the second."""
    study = StudyFile(path)
    study.create(plan)
    study.add_references("dog", [as_png(np.full((8, 8, 3), 90, np.uint8), "generated")])
    for prompt in plan.prompts["dog"]:
        for method, colour in zip(plan.methods, ([255, 0, 0], [0, 0, 255], [0, 255, 0]), strict=False):
            png = as_png(np.full((8, 8, 3), colour, np.uint8), "generated")
            study.add_image("dog", prompt, method, png, 0, 0.3)
    pairs = [
        ("dog", prompt, prompt.replace("{}", "dog"), first, second)
        for prompt in plan.prompts["dog"]
        for i, first in enumerate(plan.methods)
        for second in plan.methods[i + 1 :]
    ]
    study.finish(pairs)
    return study


def red(study: StudyFile, name: str) -> bool:
    return study.picture(name) == as_png(np.full((8, 8, 3), [255, 0, 0], np.uint8), "generated")


def answer_all(study: StudyFile, prefer_red: bool = True) -> str:
    key = Raters(study).begin()
    while (question := Raters(study).next_question(key)) is not None:
        side = "left" if red(study, question.left) == prefer_red else "right"
        Raters(study).answer(key, question.number, side, "similar")
    return key


def test_places_repeat_pairs_of_the_first_half_with_sides_exchanged() -> None:
    for seed in range(20):
        places = plan_places(list(range(10, 20)), 10, 4, np.random.default_rng(seed))
        assert sorted(p.pair for p in places if not p.repeated) == list(range(10, 20))
        assert len(places) == 14
        for i, place in enumerate(places):
            if place.repeated:
                before = next(j for j, p in enumerate(places) if p.pair == place.pair and not p.repeated)
                assert before < 5 <= i
                assert places[before].swapped != place.swapped
    with pytest.raises(ValueError, match="cannot be taken"):
        plan_places([1, 2], 3, 0, np.random.default_rng(0))


def test_sides_are_random() -> None:
    rng = np.random.default_rng(0)
    left = np.mean([p.swapped for _ in range(200) for p in plan_places(range(10), 10, 0, rng)])
    assert 0.46 < left < 0.54


def test_answers_are_those_of_methods_whatever_the_side(tmp_path: Path) -> None:
    study = make_study(tmp_path / "s.sqlite")
    answer_all(study)
    rows = Raters(study).answers()
    assert len(rows) == 8 + 3
    assert {row["swapped"] for row in rows} == {0, 1}
    assert {row["subject_choice"] for row in rows} == {"first"}
    assert {row["prompt_choice"] for row in rows} == {"similar"}


def test_the_first_answer_counts_and_the_next_rater_gets_pairs_with_fewest_answers(tmp_path: Path) -> None:
    study = make_study(tmp_path / "s.sqlite", dataclasses.replace(PLAN, shown=4, repeats=0))
    first, second = answer_all(study), answer_all(study)
    Raters(study).answer(first, 1, "similar", "left")
    rows = Raters(study).answers()
    assert {row["prompt_choice"] for row in rows} == {"similar"}
    assert len({row["pair"] for row in rows}) == 8
    Raters(study).withdraw(first)
    assert len(Raters(study).answers()) == 4
    assert not Raters(study).knows(first)
    assert Raters(study).knows(second)


def test_ten_raters_at_once_lose_nothing(tmp_path: Path) -> None:
    study = make_study(tmp_path / "s.sqlite")
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda _: answer_all(study), range(10)))
    rows = Raters(study).answers()
    assert len(rows) == 10 * 11
    assert len({row["rater"] for row in rows}) == 10


def test_an_interrupted_study_goes_on_and_another_is_refused(tmp_path: Path) -> None:
    study = StudyFile(tmp_path / "s.sqlite")
    study.create(PLAN)
    study.create(PLAN)
    with raises("study-unfinished", "s.sqlite"):
        study.require_ready()
    with raises("study-differs", "--output"):
        study.create(dataclasses.replace(PLAN, seed=1))
    with raises("study-missing", "none.sqlite"):
        StudyFile(tmp_path / "none.sqlite").plan()
    (tmp_path / "text.sqlite").write_text("not a database, but long enough to be taken for one" * 40)
    with raises("study-file", "text.sqlite"):
        StudyFile(tmp_path / "text.sqlite").plan()
    connection = sqlite3.connect(tmp_path / "s.sqlite")
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_an_empty_file_is_no_study_yet_and_looking_makes_none(tmp_path: Path) -> None:
    study = StudyFile(tmp_path / "s.sqlite")
    for look in (study.plan, study.count_images, Raters(study).progress):
        with raises("study-missing"):
            look()
    assert not study.path.exists()
    study.path.touch()  # as a kill before the first write leaves it
    study.create(PLAN)
    assert study.plan() == PLAN
    assert study.count_images() == (0, False)


def test_kappa_is_that_of_fleiss() -> None:
    """The example of Fleiss (1971) as it is reprinted everywhere: fourteen raters, ten items, κ = 0.210."""
    table = np.array([
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ])  # fmt: skip
    assert fleiss_kappa(table) == pytest.approx(0.210, abs=5e-4)
    assert fleiss_kappa(np.array([[3, 0], [0, 3]])) == 1
    assert np.isnan(fleiss_kappa(np.array([[1, 0], [0, 1]])))


def test_bradley_terry_finds_the_strengths_that_made_the_wins() -> None:
    strengths = np.array([0.8, 0.1, -0.9])
    odds = 1 / (1 + np.exp(strengths[None] - strengths[:, None]))
    wins = 10_000 * odds * (1 - np.eye(3))
    np.testing.assert_allclose(bradley_terry(wins), strengths, atol=1e-3)
    assert np.isfinite(bradley_terry(np.array([[0.0, 5.0], [0.0, 0.0]]))).all()


def test_intervals_cover_the_true_share_and_widen_with_few_raters() -> None:
    """Raters and pairs differ: 95% intervals must cover the mean over both in nine of ten studies at least."""
    rng, covered, widths = np.random.default_rng(0), 0, []
    for _ in range(60):
        by_rater, by_pair = rng.normal(0, 0.7, 12), rng.normal(0, 0.7, 20)
        likely = 1 / (1 + np.exp(-(by_rater[:, None] + by_pair[None])))
        r, p = np.meshgrid(range(12), range(20), indexing="ij")
        outcome = np.where(rng.random((12, 20)) < likely, 0, 1)
        found = shares(Answers(r.ravel(), p.ravel(), outcome.ravel()), rng, 400)
        covered += found[0].low <= 0.5 <= found[0].high
        widths.append(found[0].high - found[0].low)
        assert sum(one.mean for one in found) == pytest.approx(1)
    assert covered >= 54
    assert np.mean(widths) < 0.5
    lonely = shares(Answers(np.zeros(9), np.arange(9), np.zeros(9, int)), rng)
    assert not lonely[0].known


def test_a_rater_who_contradicts_themselves_is_listed_apart(tmp_path: Path) -> None:
    study = make_study(tmp_path / "s.sqlite")
    answer_all(study)
    key = Raters(study).begin()
    while (question := Raters(study).next_question(key)) is not None:
        Raters(study).answer(key, question.number, "left", "left")
    rows = Raters(study).answers()
    assert unreliable_raters(rows) == {2}
    assert not failed_repeats([False, False])
    text = " ".join(str(block) for section in study_sections(PLAN, rows) for block in section.blocks)
    assert "Answers: 8, raters: 1, pairs of images: 8" in text
    assert "not counted" in text
    assert "55.1%" in text
    assert "100.0%" in text


def test_wins_count_similar_as_half() -> None:
    rows = [
        {"first": "a", "second": "b", "subject_choice": "first"},
        {"first": "a", "second": "b", "subject_choice": "similar"},
    ]
    np.testing.assert_array_equal(win_counts(["a", "b"], rows, "subject_choice"), [[0, 1.5], [0.5, 0]])


class TestPages:
    """The pages as a browser without scripts uses them."""

    @pytest.fixture
    def study(self, tmp_path: Path) -> StudyFile:
        plan = dataclasses.replace(PLAN, prompts={"dog": ["a {} <script>alert(1)</script>", "a {} & two"]}, repeats=1)
        return make_study(tmp_path / "s.sqlite", plan)

    def client(self, study: StudyFile, token: str = ""):
        testclient = pytest.importorskip("starlette.testclient", reason="needs the extra `study`")
        from lookforward.study.server import build_app

        return testclient.TestClient(build_app(study, token), follow_redirects=True)

    def test_a_rater_consents_answers_and_ends(self, study: StudyFile) -> None:
        client = self.client(study)
        assert "I agree" in client.get("/").text
        refused = client.post("/begin", data={})
        assert refused.status_code == 400
        assert Raters(study).answers() == []
        page = client.post("/begin", data={"consent": "yes"}).text
        for number in (1, 2, 3):
            assert f"Pair {number} of 3" in page
            assert "<script>" not in page
            assert not re.search("dreambooth|look-forward|seed", page)
            names = re.findall('src="(/picture/[0-9a-f]+)"', page)
            assert len(names) == 3
            assert all(client.get(name).headers["content-type"] == "image/png" for name in names)
            half = client.post("/answer", data={"number": str(number), "subject": "left"})
            assert half.status_code == 400
            assert "Answer both questions" in half.text
            assert 'value="left" required checked' in half.text
            page = client.post("/answer", data={"number": str(number), "subject": "left", "prompt": "right"}).text
        assert "Thank you" in page
        assert len(Raters(study).answers()) == 3
        assert "deleted" in client.post("/withdraw").text
        assert Raters(study).answers() == []

    @pytest.mark.parametrize(
        "form",
        [
            {"number": "1", "subject": "first", "prompt": "left"},
            {"number": "-1", "subject": "left", "prompt": "left"},
            {"number": "9" * 400, "subject": "left", "prompt": "left"},
            {"number": "1' OR 1=1 --", "subject": "left", "prompt": "left"},
            {"number": "1", "subject": "left" * 4000, "prompt": "left"},
            {"number": "٣", "subject": "left", "prompt": "left"},
        ],
    )
    def test_odd_forms_change_nothing(self, study: StudyFile, form: dict[str, str]) -> None:
        client = self.client(study)
        client.post("/begin", data={"consent": "yes"})
        assert client.post("/answer", data=form).status_code in (200, 400)
        assert client.post("/answer", content=b"\xff\xfe").status_code == 400
        assert Raters(study).answers() == []

    def test_pages_say_that_nothing_else_is_loaded(self, study: StudyFile) -> None:
        client = self.client(study)
        page = client.get("/")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert client.get("/picture/..%2f..%2fetc%2fpasswd").status_code == 404
        assert client.get("/answer").status_code == 405

    def test_a_token_is_asked_for_and_remembered(self, study: StudyFile) -> None:
        client = self.client(study, "secret")
        assert client.get("/").status_code == 403
        assert client.get("/?token=wrong").status_code == 403
        assert client.get("/?token=secret").status_code == 200
        assert client.get("/style.css").status_code == 200

    def test_an_unknown_rater_begins_anew(self, study: StudyFile) -> None:
        client = self.client(study)
        client.cookies.set("rater", "made up")
        assert "I agree" in client.get("/pair").text


def test_from_runs_to_a_report(
    command_line: Command, photos: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = json.loads((tiny_model / "text_encoder" / "config.json").read_text())
    shutil.copytree(tiny_model / "tokenizer", "clip")
    torch.manual_seed(0)
    vision = {**sizes, "intermediate_size": 32, "image_size": 32, "patch_size": 8, "initializer_range": 0.2}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision)).save_pretrained("clip")
    train = ["train", photos, "--class-noun", "teapot", "--model", tiny_model, *as_options(SETTINGS)]
    for recipe in ("look-forward", "dreambooth"):
        status, _, err = command_line(*train, "--recipe", recipe, "--output", recipe)
        assert (status, err) == (0, "")
    create = ["study", "create", "look-forward", "dreambooth", "--candidates", 2, "--clip", "clip", "--repeats", 1]
    status, out, err = command_line(*create, "--prompt-count", 3)
    assert (status, err) == (0, "")
    assert "6 images of look-forward, dreambooth, the best of 2 by CLIP-T" in out
    before = Path("study.sqlite").read_bytes()
    assert command_line(*create, "--prompt-count", 3)[0] == 0
    assert Path("study.sqlite").read_bytes() == before
    status, _, err = command_line(*create, "--prompt-count", 2)
    assert status == 2
    assert "--output" in err

    study = StudyFile(Path("study.sqlite"))
    assert study.require_ready().methods == ["look-forward", "dreambooth"]
    key = Raters(study).begin()
    question = Raters(study).next_question(key)
    assert question is not None
    assert "sks" not in question.prompt
    assert "teapot" in question.prompt
    assert len(question.references) == 5
    assert b"dreambooth" not in (study.picture(question.left) or b"")
    Raters(study).answer(key, 1, "left", "similar")
    status, out, err = command_line("study", "report", "study.sqlite", "--answers", "answers.csv")
    assert (status, err) == (0, "")
    assert "55.1%" in out
    assert len(Path("answers.csv").read_text().splitlines()) == 2
    assert "Follows the prompt better" in Path("study.html").read_text()

    status, _, err = command_line("study", "create", "look-forward", "--output", "other.sqlite")
    assert status == 2
    assert "two methods" in err
    status, _, err = command_line(*create[:4], "look-forward", "--output", "other.sqlite")
    assert status == 2
    assert "give one of them" in err
    status, _, err = command_line("study", "serve", "missing.sqlite")
    assert status == 2
    assert "study create" in err
