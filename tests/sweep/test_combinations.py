from tser_lightning.config.hydra_loader import Configs
from tser_lightning.config.run import compose_run
from tser_lightning.sweep.combinations import jobs_of


def test_a_sweep_is_every_combination(configs: Configs) -> None:
    assert jobs_of(["loss=ce,tser", "seed=1,2", "trainer.epochs=3"], configs) == [
        ["loss=ce", "seed=1", "trainer.epochs=3"],
        ["loss=ce", "seed=2", "trainer.epochs=3"],
        ["loss=tser", "seed=1", "trainer.epochs=3"],
        ["loss=tser", "seed=2", "trainer.epochs=3"],
    ]


def test_a_named_sweep_brings_its_own_values_and_the_command_wins(configs: Configs) -> None:
    named = jobs_of(["sweep=table3", "seed=1"], configs)
    assert [job[0] for job in named] == [f"loss={name}" for name in ("vanilla_kd", "ts_ce", "ts_kl", "ts", "tser")]
    assert len(jobs_of(["sweep=table3", "loss=ce", "seed=1,2"], configs)) == 2


def test_the_study_does_one_seed_after_the_other(configs: Configs) -> None:
    losses = ["vanilla_kd", "tser", "ce", "ts", "tet", "kdsnn"]
    wanted = [[f"seed={seed}", f"loss={loss}"] for seed in (1, 2, 3) for loss in losses]
    assert [job[:2] for job in jobs_of(["experiment=cifar10_small", "sweep=study"], configs)] == wanted


def test_every_named_sweep_lays_out_different_runs_that_compose(configs: Configs) -> None:
    sizes = {}
    for name in configs.options("sweep"):
        jobs = jobs_of([f"sweep={name}", "seed=1,2"], configs)
        names = {compose_run(job, configs=configs).name for job in (jobs[0], jobs[-1])}
        assert len(names) == 2, name
        sizes[name] = len(jobs) // 2
    assert sizes == {
        "none": 1,
        "table1": 4,
        "table3": 5,
        "lambda": 6,
        "tau": 5,
        "alpha": 5,
        "timesteps": 4,
        "losses": 23,
        "frontier": 15,
        "study": 6,
    }


def test_a_plus_before_what_exists_does_no_harm(configs: Configs) -> None:
    assert jobs_of(["+experiment=digits", "+seed=1,2"], configs) == [
        ["experiment=digits", "++seed=1"],
        ["experiment=digits", "++seed=2"],
    ]
