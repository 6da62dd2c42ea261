import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tser_lightning.config.hydra_loader import Configs
from tser_lightning.config.run import Run, compose_run
from tser_lightning.config.usage_errors import UsageErrors
from tser_lightning.sweep.combinations import jobs_of

Compose = Callable[..., Run]


def test_a_run_is_plain_and_resolved(compose: Compose) -> None:
    config = compose("loss.alpha=0.25 loss.lam=0.1").config
    assert type(config) is dict
    assert type(config["loss"]) is dict
    assert (config["loss"]["alpha"], config["loss"]["lam"]) == (0.25, 0.1)
    assert config["student"]["attention_timesteps"] == config["student"]["timesteps"]
    assert "hydra" not in config


def test_a_run_knows_its_choices(compose: Compose) -> None:
    choices = compose("loss=ce student=resnet18 neuron=if").choices
    assert {name: choices[name] for name in ("experiment", "data", "teacher", "student", "neuron", "loss")} == {
        "experiment": "digits",
        "data": "digits",
        "teacher": "cnn_small",
        "student": "resnet18",
        "neuron": "if",
        "loss": "ce",
    }


def test_what_the_command_gives_is_told_from_what_changes(compose: Compose) -> None:
    run = compose("student.timesteps=6 loss.lam=0.1")
    assert run.given == {"student.timesteps": 6, "loss.lam": 0.1}
    assert run.changed["loss.lam"] == 0.1
    assert not any("timesteps" in text for text in run.differences)
    assert run.differences == ["loss.lam=0.1", "loss=tser"]


def test_settings_of_the_experiment_count_as_changed_even_where_the_command_sets_them_back(
    folder: Path,
) -> None:
    (folder / "experiments").mkdir()
    (folder / "experiments" / "mine.yaml").write_text("# @package _global_\nstudent:\n  timesteps: 2\n")
    assert compose_run(["experiment=mine"]).changed == {"student.timesteps": 2}
    assert compose_run(["experiment=mine", "student.timesteps=4"]).changed == {"student.timesteps": 4}


def test_the_name_depends_on_content_not_on_words(compose: Compose) -> None:
    name = compose("").name
    assert name.startswith("digits-loss_tser-")
    for same in ("loss=tser", "loss.tau=4", "loss.tau=4.0", "seed=1 machine.workers=0", "logging.wandb.mode=offline"):
        assert compose(same).name == name
    assert compose("seed=2 loss.lam=0.1").name == compose("loss.lam=0.1 seed=2").name
    assert compose("seed=2").name != name
    assert compose("loss=ce").name.startswith("digits-loss_ce-")


def test_later_words_take_the_place_of_earlier_ones(compose: Compose) -> None:
    run = compose("loss=ce seed=1 loss=tser seed=7")
    assert (run.choices["loss"], run.config["seed"]) == ("tser", 7)


def test_a_plus_before_what_exists_does_no_harm(compose: Compose) -> None:
    assert compose("+experiment=digits ++loss=ce +seed=3").name == compose("loss=ce seed=3").name


def test_whole_numbers_given_for_fractions_become_fractions(compose: Compose) -> None:
    assert type(compose("loss.tau=4").config["loss"]["tau"]) is float
    assert type(compose("seed=4").config["seed"]) is int


def test_settings_may_come_as_python_values(compose: Compose) -> None:
    config = compose("loss=tser", settings={"loss.alpha": 0.3, "loss.tau": 2}, check_data=False).config
    assert (config["loss"]["alpha"], config["loss"]["tau"]) == (0.3, 2.0)
    with pytest.raises(UsageErrors, match=r"loss\.beta is not a setting"):
        compose("loss=tser", settings={"loss.beta": 1}, check_data=False)


def test_without_files_nothing_is_looked_up(compose: Compose) -> None:
    assert compose("data=cifar10", check_data=False).config["data"]["num_classes"] == 10


def test_an_experiments_setting_for_an_option_not_chosen_is_left_out_aloud(folder: Path) -> None:
    (folder / "experiments").mkdir()
    (folder / "experiments" / "mine.yaml").write_text("# @package _global_\nneuron:\n  decay: 0.25\n")
    assert compose_run(["experiment=mine"]).config["neuron"]["decay"] == 0.25
    run = compose_run(["experiment=mine", "neuron=if"])
    assert "decay" not in run.config["neuron"]
    assert run.notes == ["experiment=mine sets neuron.decay, which neuron=if does not have: left out"]


def test_a_misprint_in_an_experiment_is_found(folder: Path) -> None:
    (folder / "experiments").mkdir()
    (folder / "experiments" / "mine.yaml").write_text("# @package _global_\nloss:\n  lamda: 1\ntrainer:\n  epochs: 0\n")
    with pytest.raises(UsageErrors) as caught:
        compose_run(["experiment=mine"])
    assert [mistake.what for mistake in caught.value.mistakes] == [
        "experiment=mine sets loss.lamda, which is not a setting",
        "experiment=mine: trainer.epochs=0 is not a whole number from 1 to 1000000",
    ]


def test_an_experiment_that_asks_for_what_does_not_exist_says_so(folder: Path) -> None:
    (folder / "experiments").mkdir()
    text = "# @package _global_\ndefaults:\n  - override /student: sew_resnet99\n"
    (folder / "experiments" / "mine.yaml").write_text(text)
    with pytest.raises(UsageErrors, match="experiment=mine asks for student=sew_resnet99, which does not exist"):
        compose_run(["experiment=mine"])
    assert compose_run(["experiment=mine", "student=vgg_small"]).choices["student"] == "vgg_small"


def test_a_broken_file_is_named_with_its_line(folder: Path) -> None:
    (folder / "experiments").mkdir()
    (folder / "experiments" / "mine.yaml").write_text("# @package _global_\nseed: 1\n loss: [\n")
    with pytest.raises(UsageErrors, match=r"mine\.yaml.*, line \d+: this is not YAML"):
        compose_run(["experiment=mine"])


def test_experiments_are_found_whatever_their_names_look_like(folder: Path) -> None:
    names = ("1.5", "007", "1e3", "true", "null", "\u00fcn\u00efcode", "a=b", "v[1]", "my exp", "it's", "a,b")
    (folder / "experiments").mkdir()
    for seed, name in enumerate(names, start=20):
        (folder / "experiments" / f"{name}.yaml").write_text(f"seed: {seed}\n")
    configs = Configs()

    for seed, name in enumerate(names, start=20):
        run = compose_run([f"experiment={name}"], configs=configs, check_data=False)
        assert (run.config["seed"], run.choices["experiment"]) == (seed, name)
    jobs = jobs_of(["experiment=1.5,007", "machine.runs_dir=/a=b"], configs)
    runs = [compose_run(job, configs=configs, check_data=False) for job in jobs]
    assert [(run.config["seed"], run.config["machine"]["runs_dir"]) for run in runs] == [(20, "/a=b"), (21, "/a=b")]


def test_a_path_is_taken_as_it_is_typed(folder: Path, configs: Configs) -> None:
    (folder / "a,b").mkdir()
    for path in ("/x/a=b", "/x/\u00fcn\u00ef [1] (x)", "/x/it's", "C:\\images", "x\\", "20241126", "1e3", "a,b", "a b"):
        for words in (f"data.path={path}", f"+data.path={path}"):
            run = compose_run(["data=image_folder", words], configs=configs, check_data=False)
            assert run.config["data"]["path"] == path


def test_a_tilde_is_the_home_folder(folder: Path, monkeypatch: pytest.MonkeyPatch, configs: Configs) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    (folder / "experiments").mkdir()
    text = "defaults:\n  - override /data: image_folder\ndata:\n  path: ~/images\n"
    (folder / "experiments" / "mine.yaml").write_text(text)

    for words in (["data=image_folder", "data.path=~/images"], ["experiment=mine"]):
        run = compose_run(words, check_data=False)
        assert run.config["data"]["path"] == "/home/me/images"
    whole = compose_run(["data=image_folder", "data.path=/home/me/images"], configs=configs, check_data=False)
    tilde = compose_run(["data=image_folder", "data.path=~/images"], configs=configs, check_data=False)
    assert tilde.name == whole.name


@pytest.mark.parametrize("typed", ["images/", "./images", ".//images//"])
def test_a_path_names_one_run_however_it_is_typed(typed: str, configs: Configs) -> None:
    runs = [
        compose_run(["data=image_folder", f"data.path={path}"], configs=configs, check_data=False)
        for path in ("images", typed)
    ]
    assert runs[0].name == runs[1].name
    assert runs[1].config["data"]["path"] == "images"


@pytest.mark.parametrize(
    ("words", "fix"),
    [
        (["data.path=/x/a b, (c)"], "\"data.path='/x/a b, (c)'\""),
        (["data.path=/x/my", "images"], '"data.path=/x/my images"'),
        (["seed=range(1,4)"], "-m 'seed=range(1,4)'"),
        (["experiment=digits.yaml"], "experiment=digits"),
        (["experiment=experiments/digits.yaml"], "experiment=digits"),
        (["experiment=other"], "mv experiments/other.yml experiments/other.yaml"),
        (["experiment=other.yml"], "mv experiments/other.yml experiments/other.yaml"),
    ],
)
def test_what_is_said_of_a_word_works_when_it_is_typed(folder: Path, words: list[str], fix: str) -> None:
    (folder / "experiments").mkdir()
    (folder / "experiments" / "other.yml").write_text("seed: 3\n")

    with pytest.raises(UsageErrors) as refused:
        compose_run(["data=image_folder", *words], check_data=False)

    assert fix in [mistake.fix for mistake in refused.value.mistakes]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("seed: 3  # caf\u00e9\n".encode("latin1"), "line 1: byte 0xe9 is not UTF-8"),
        ("seed: 3  # caf\u00e9\n".encode("utf-16"), "line 1: byte 0xff is not UTF-8"),
        (b"trainer:\n\tepochs: 3\nseed: 3\n", "line 2: this is not YAML"),
    ],
)
def test_what_is_said_of_a_file_mends_it(folder: Path, content: bytes, what: str) -> None:
    file = folder / "experiments" / "mine.yaml"
    file.parent.mkdir()
    file.write_bytes(content)

    with pytest.raises(UsageErrors, match=what) as refused:
        compose_run(["experiment=mine"], check_data=False)
    subprocess.run(refused.value.fix, shell=True, check=True, cwd=folder)

    assert compose_run(["experiment=mine"], check_data=False).config["seed"] == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a\n- b\n", "mine.yaml holds a list"),
        ("digits\n", "mine.yaml holds a single value"),
        ("seed: 1\nseed: 2\n", "one seed: with all that belongs to it"),
        ("loss: ce\n", "try: in the experiment's file, 'defaults:' with the line ' - override /loss: ce'"),
        ("data: {augment: 3}\n", "as YAML in the experiment's file"),
        ("seed: !!python/object/apply:os.system [x]\n", "tser: experiment=mine, line 1: this is not YAML"),
    ],
)
def test_a_file_that_holds_no_settings_says_what_it_holds(folder: Path, text: str, said: str) -> None:
    (folder / "experiments").mkdir()
    (folder / "experiments" / "mine.yaml").write_text(text)

    with pytest.raises(UsageErrors, match=said):
        compose_run(["experiment=mine"], check_data=False)


def test_a_class_of_ones_own_may_have_settings_of_its_own(folder: Path) -> None:
    (folder / "my_losses.py").write_text("")
    (folder / "own" / "loss").mkdir(parents=True)
    (folder / "own" / "loss" / "mine.yaml").write_text("_target_: my_losses.Mine\nbeta: 1\n")
    configs = Configs("own")
    run = compose_run(["loss=mine", "loss.beta=2.5", "+loss.gamma=3"], configs=configs, check_data=False)
    assert run.config["loss"] == {"_target_": "my_losses.Mine", "beta": 2.5, "gamma": 3}
    assert run.changed["loss.gamma"] == 3
    with pytest.raises(UsageErrors, match=r"loss\.gamma is in no config file"):
        compose_run(["loss=mine", "loss.gamma=3"], configs=configs)
    assert "mine" in configs.options("loss")


def test_without_a_file_a_class_of_ones_own_is_named_on_the_command_line(folder: Path, compose: Compose) -> None:
    config = compose("loss=custom loss._target_=my_losses.Mine +loss.beta=2", check_data=False).config
    assert config["loss"] == {"_target_": "my_losses.Mine", "beta": 2}
    run = compose("+callbacks.mine._target_=my_module.Callback +callbacks.mine.every=3", check_data=False)
    assert run.config["callbacks"] == {"mine": {"_target_": "my_module.Callback", "every": 3}}


def test_evaluate_refuses_what_it_would_not_look_at(folder: Path, compose: Compose) -> None:
    (folder / "done").mkdir()
    (folder / "done" / "student.safetensors").touch()
    run = compose("task=evaluate run=done student.timesteps=8")
    assert run.given == {"run": "done", "student.timesteps": 8}
    with pytest.raises(UsageErrors, match=r"task=evaluate does not look at loss\.lam"):
        compose("task=evaluate run=done loss.lam=1")


@pytest.mark.slow  # each is composed and built in test_configs
@pytest.mark.parametrize("words", ["", "loss=ce teacher=none"])
def test_every_experiment_composes_whatever_the_loss(compose: Compose, configs: Configs, words: str) -> None:
    for experiment in configs.options("experiment"):
        run = compose(f"experiment={experiment} {words}", check_data=False)
        assert (run.choices["experiment"], run.notes) == (experiment, [])


@pytest.mark.parametrize(
    "command",
    [
        "trainer.epochs=" + "9" * 400,
        "optim.lr=" + "9" * 400,
        "~" + "a" * 400,
        "callbacks=[[[[1]]]]",
        "hydra/launcher=[[1]]",
        "loss=???",
        "loss.alpha={a:{b:[1,{c:2}]}}",
        "loss=${loss}",
        "loss.alpha=${one_minus:a}",
        "loss.alpha=${oc.env:THERE_IS_NO_SUCH_VARIABLE}",
        "@=1",
        "student.widths.9=1",
    ],
)
def test_what_fuzzing_found_is_answered(compose: Compose, command: str) -> None:
    with pytest.raises(UsageErrors):
        compose(command)


WORDS = st.one_of(
    st.sampled_from(
        ["loss", "loss.lam", "loss.alpha", "student", "student.timesteps", "data.shape", "seed", "hydra", ""]
    ),
    st.text(max_size=12),
)
VALUES = st.one_of(
    st.sampled_from(
        ["tser", "1e400", "-1", "[1,2", "{a:1}", "null", "${seed}", "'", "1,2", "range(1,3)", "\u22121", " "]
    ),
    st.text(max_size=12),
    st.floats().map(str),
    st.integers().map(str),
)
OVERRIDES = st.builds(
    "{}{}{}{}".format, st.sampled_from(["", "+", "++", "~"]), WORDS, st.sampled_from(["=", "", "=="]), VALUES
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(OVERRIDES, max_size=4))
def test_any_words_compose_or_are_answered(configs: Configs, words: list[str]) -> None:
    found = ""
    try:
        compose_run(words, configs=configs, check_data=False)
    except UsageErrors as mistakes:
        found = str(mistakes)
    assert [line[:6] for line in found.splitlines()] == ["tser: ", "  why:", "  try:"] * (
        found.count("\n") // 3 + bool(found)
    )


def test_whole_numbers_for_a_class_of_the_users_own_stay_whole(
    compose: Compose, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "my_nets.py").write_text("def net(**settings): ...\n")
    monkeypatch.syspath_prepend(folder)
    student = compose("student=custom student._target_=my_nets.net +student.width=8").config["student"]
    assert (student["timesteps"], student["width"]) == (6, 8)
    assert all(type(student[name]) is int for name in ("timesteps", "width"))


def test_a_class_of_ones_own_is_called_by_its_name(compose: Callable[..., Run], folder: Path) -> None:
    (folder / "my_losses.py").write_text("class Mine:\n    pass\n\n\nclass Other(Mine):\n    pass\n")
    runs = [compose(f"loss=custom loss._target_=my_losses.{name}", check_data=False) for name in ("Mine", "Other")]
    assert [run.choices["loss"] for run in runs] == ["Mine", "Other"]
    assert runs[0].name.startswith("digits-loss_Mine-")
    assert runs[1].name.startswith("digits-loss_Other-")


def test_a_directory_that_an_earlier_version_named_otherwise_is_found(
    compose: Callable[..., Run], tmp_path_factory: pytest.TempPathFactory
) -> None:
    runs = tmp_path_factory.mktemp("records")
    run = compose(f"machine.runs_dir={runs}")
    assert run.home == runs / run.name
    (runs / f"other-loss_custom-{run.name.rpartition('-')[2]}").mkdir()
    assert run.home == runs / run.name
    earlier = runs / f"digits-loss_custom-{run.name.rpartition('-')[2]}"
    earlier.mkdir()
    assert run.home == earlier
    (runs / run.name).mkdir()
    assert run.home == runs / run.name


def test_a_name_that_is_not_in_the_users_module_is_said_before_anything_is_imported(
    refused: Callable[..., list[tuple[str, str, str]]], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "my_own_losses.py").write_text("raise SystemExit\nclass DKD: ...\n")
    monkeypatch.syspath_prepend(folder)
    ((what, _, fix),) = refused("loss=custom", "loss._target_=my_own_losses.Dkd")
    assert what == "loss._target_=my_own_losses.Dkd: there is no Dkd in my_own_losses"
    assert fix == "loss._target_=my_own_losses.DKD"


def test_other_data_do_not_get_the_recipe_of_the_digits(compose: Compose) -> None:
    alone = compose("data=cifar10", check_data=False)
    plain = compose("experiment=none data=cifar10", check_data=False)
    assert alone.config == plain.config
    assert alone.name == plain.name
    assert alone.notes == ["data=cifar10 without experiment=NAME: the plain defaults, not the recipe of the digits"]
    assert compose("experiment=digits data=cifar10", check_data=False).config["trainer"]["epochs"] == 20
    assert compose("data=synthetic", check_data=False).choices["experiment"] == "digits"


@pytest.mark.parametrize(
    "words", ["experiment={}", "data=prepared data.path={}.safetensors", "teacher.weights={}", "task=evaluate run={}"]
)
def test_a_name_too_long_for_a_file_is_refused(words: str, refused: Callable[..., list[tuple[str, str, str]]]) -> None:
    assert refused(*words.format("9" * 300).split())
