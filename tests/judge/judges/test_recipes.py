"""Recipes: what a judge.yaml may say, and judges that are made of other judges."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from judge.engines.endpoint import EndpointEngine
from judge.errors import InputError
from judge.judges import SHIPPED, load_judge
from judge.judges.jury import Jury, prompted_within
from judge.judges.prompted import PromptedJudge
from judge.judges.prompted_settings import PromptedSettings, to_keep
from judge.judges.recipes import as_member, made_by, made_from, plain, read_recipe, written_judge


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder, with the ledger in it."""
    monkeypatch.setenv("ARENA_JUDGE_LEDGER", str(tmp_path / "ledger.sqlite"))
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    return tmp_path


def write(file: Path, said: object) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(said))
    return str(file)


def test_a_recipe_may_be_a_file_on_its_own(offline: Path) -> None:
    url = "http://127.0.0.1:9/v1"
    said = {
        "kind": "prompted",
        "name": "mine",
        "judge": "endpoint:m",
        "asking": {"base_urls": [url], "orders": ["AB"], "rpm": 30},
    }
    judge = load_judge(write(offline / "mine.yaml", said))
    assert isinstance(judge, PromptedJudge)
    assert judge.name == "mine"
    assert judge.asking.orders == ("AB",)
    judge.close()


def test_what_the_user_says_goes_before_a_recipe(offline: Path) -> None:
    said = {"kind": "prompted", "judge": "endpoint:m", "asking": {"samples": 3}}
    spec = write(offline / "mine.yaml", said)
    settings = PromptedSettings(samples=1, said=frozenset({"samples"}))
    judge = load_judge(spec, settings)
    assert isinstance(judge, PromptedJudge)
    assert judge.asking.samples == 1
    judge.close()


def prompted(**asking: object) -> dict[str, object]:
    return {"kind": "prompted", "judge": "endpoint:m", "asking": asking}


def test_an_adapter_lies_where_its_recipe_says_and_nowhere_else(
    offline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An adapter of the same name in the folder that one happens to be in is another."""
    (offline / "here" / "adapter").mkdir(parents=True)
    monkeypatch.chdir(offline / "here")
    said = {"kind": "prompted", "judge": "vllm:a/b", "asking": {"adapter": "adapter"}}
    with pytest.raises(InputError, match="adapter, which is not there"):
        load_judge(write(offline / "there" / "judge.yaml", said))
    kept = to_keep(PromptedSettings(adapter="adapter"), offline / "there")
    assert kept == {"adapter": "../here/adapter"}


def test_a_judge_in_a_folder_is_called_as_the_folder_is(offline: Path) -> None:
    """Many adapters have one base, whose name says nothing of them."""
    for name in ("one", "two"):
        judge = load_judge(str(Path(write(offline / name / "judge.yaml", prompted())).parent))
        assert judge.name == name
        judge.close()
    judge = load_judge(write(offline / "alone.yaml", prompted()))
    assert judge.name == "endpoint:m"
    judge.close()


@pytest.mark.parametrize("names", ["KEY_1", ["KEY_1"], ["KEY_1", "KEY_2"]])
def test_a_recipe_may_name_its_keys(
    offline: Path, monkeypatch: pytest.MonkeyPatch, names: object
) -> None:
    monkeypatch.setenv("KEY_1", "one")
    monkeypatch.setenv("KEY_2", "two")
    urls = ["http://127.0.0.1:8/v1", "http://127.0.0.1:9/v1"]
    judge = load_judge(write(offline / "m.yaml", prompted(base_urls=urls, api_key_env=names)))
    assert isinstance(judge, PromptedJudge)
    assert isinstance(judge.engine, EndpointEngine)
    last = names[-1] if isinstance(names, list) else names
    assert judge.engine.settings.servers == ((urls[0], "KEY_1"), (urls[1], last))
    judge.close()


@pytest.mark.parametrize("names", [3, [3], {"a": 1}, True, ["KEY_1", None]])
def test_a_recipe_s_keys_are_names(offline: Path, names: object) -> None:
    with pytest.raises(InputError, match="api_key_env that cannot be"):
        load_judge(write(offline / "m.yaml", prompted(api_key_env=names)))


def test_one_server_s_key_is_not_shown_to_another(
    offline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY_1", "one")
    monkeypatch.setenv("KEY_2", "two")
    urls = ["http://127.0.0.1:8/v1", "http://127.0.0.1:9/v1"]
    spec = write(offline / "m.yaml", prompted(base_urls=urls, api_key_env=["KEY_1", "KEY_2"]))
    with pytest.raises(InputError, match="other servers are to be asked; name their keys too"):
        load_judge(spec, PromptedSettings(base_urls=("http://127.0.0.1:7/v1",)))
    own = PromptedSettings(base_urls=("http://127.0.0.1:7/v1",), api_key_env="KEY_2")
    judge = load_judge(spec, own)
    assert isinstance(judge, PromptedJudge)
    assert isinstance(judge.engine, EndpointEngine)
    assert judge.engine.settings.servers == (("http://127.0.0.1:7/v1", "KEY_2"),)
    judge.close()


def test_a_jury_in_a_file(offline: Path) -> None:
    write(offline / "b.yaml", {"kind": "prompted", "judge": "endpoint:b", "name": "bee"})
    said = {"kind": "jury", "judges": ["endpoint:a", "b.yaml"]}
    judge = load_judge(write(offline / "jury.yaml", said))
    assert isinstance(judge, Jury)
    assert [one.name for one in prompted_within(judge)] == ["endpoint:a", "bee"]
    judge.close()


def test_a_juror_that_asks_nobody_is_refused(offline: Path) -> None:
    spec = write(offline / "jury.yaml", {"kind": "jury", "judges": ["endpoint:a", "statistical"]})
    with pytest.raises(InputError, match="statistical is none"):
        load_judge(spec)


def test_members_are_found_from_where_the_recipe_is(
    offline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = offline / "deep" / "down"
    folder.mkdir(parents=True)
    shutil.copytree(SHIPPED["statistical"], offline / "deep" / "mine")
    said = {"kind": "aggregated", "judge": "../mine", "name": "counted"}
    spec = write(folder / "judge.yaml", said)
    monkeypatch.chdir("/")
    judge = load_judge(Path(spec).parent)
    assert judge.members[0].sources == judge.sources != ()


@pytest.mark.parametrize("inside", ["judge.yaml", ".", "../loop"])
def test_a_judge_within_itself_is_refused(tmp_path: Path, inside: str) -> None:
    spec = write(tmp_path / "loop" / "judge.yaml", {"kind": "aggregated", "judge": inside})
    with pytest.raises(InputError, match="names itself as a judge to ask"):
        load_judge(Path(spec).parent)


def test_two_judges_within_one_another_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "b.yaml", {"kind": "aggregated", "judge": "a.yaml"})
    spec = write(tmp_path / "a.yaml", {"kind": "aggregated", "judge": "b.yaml"})
    with pytest.raises(InputError, match=r"a\.yaml: names itself"):
        load_judge(spec)


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ({"kind": "aggregated"}, "names no judge; add a line `judge: JUDGE`"),
        ({"kind": "aggregated", "judge": 3}, "names no judge"),
        ({"kind": "jury", "judges": "endpoint:a"}, "lists no judges"),
        ({"kind": "jury", "judges": []}, "lists no judges"),
        ({"kind": "prompted", "judge": "statistical"}, "names no judge that asks a model"),
        ({"kind": "prompted", "judge": "endpoint:a", "asking": {"key": 1}}, "asking cannot be"),
        ({"kind": "prompted", "judge": "endpoint:a", "asking": {"samples": "x"}}, "a samples"),
        (
            {"kind": "prompted", "judge": "vllm:../gone"},
            "it.yaml: asks the model ../gone, which is not there; put it there",
        ),
        (
            {"kind": "prompted", "judge": "vllm:a/b", "asking": {"adapter": "adapter"}},
            "it.yaml: names the adapter adapter, which is not there; put it there",
        ),
        ({"kind": "statistical"}, "has weights, which lie in its folder"),
        ({"kind": "aggregated", "judge": "nowhere"}, "no such judge: 'nowhere'"),
    ],
)
def test_a_recipe_that_cannot_be_used_is_one_line(
    offline: Path, said: dict[str, object], what: str
) -> None:
    with pytest.raises(InputError) as caught:
        load_judge(write(offline / "it.yaml", said))
    assert what in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_judge_of_which_one_member_is_missing_keeps_none_open(
    offline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []
    monkeypatch.setattr(PromptedJudge, "close", lambda self: closed.append(self.name))
    spec = write(offline / "jury.yaml", {"kind": "jury", "judges": ["endpoint:a", "nowhere"]})
    with pytest.raises(InputError, match="nowhere"):
        load_judge(spec)
    assert closed == ["endpoint:a"]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    data = tmp_path / "battles.csv"
    data.write_text("id\n")
    member = load_judge()
    stated = made_from([data], [member])
    assert next(iter(stated)) == "battles.csv"
    assert len(stated) == 1 + len(member.sources)
    settings = {
        "kind": "aggregated",
        "judge": as_member("statistical", tmp_path),
        "weights": np.array([0.1, 1 / 3]),
        "pair": (np.float64(2.0), np.int64(3)),
        "made_by": made_by("test", seed=3),
        "made_from": stated,
    }
    with written_judge(tmp_path / "new", settings) as folder:
        (folder / "more.txt").write_text("x")
    recipe = read_recipe(tmp_path / "new" / "judge.yaml")
    assert recipe.settings["weights"] == [0.1, 1 / 3]
    assert recipe.settings["pair"] == [2.0, 3]
    assert recipe.settings["made_by"]["seed"] == 3
    assert (tmp_path / "new" / "more.txt").exists()
    assert {one.name for one in load_judge(tmp_path / "new").sources} == set(stated)


def test_a_judge_half_written_is_none(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), written_judge(tmp_path / "new", {"kind": "jury"}):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_plain_leaves_nothing_of_numpy() -> None:
    value = plain({1: [np.float32(0.5), {"a": np.arange(2)}], "b": None})
    assert value == {"1": [0.5, {"a": [0, 1]}], "b": None}
    assert yaml.safe_load(yaml.safe_dump(value)) == value
