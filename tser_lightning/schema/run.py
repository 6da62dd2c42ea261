"""The settings of a run as a whole, and those of the tasks."""

from typing import Annotated, Literal

from pydantic import Field

from tser_lightning.schema.setting import Count, Keep, OpenUnitInterval, Seed, Settings, TaskSettings, Text, about


class RunSettings(Settings, group=""):
    """What stands at the top of a config."""

    seed: Seed = about("of the student: its initialisation, the order of the data, the augmentation")
    selection: Literal["val", "last", "paper"] = about(
        "which epoch is measured on the test split: val (best on validation), last, or paper (best on test)"
    )
    force: bool = about("true: do a finished run again")
    trusted_modules: list[Text] = about(
        "modules of your own whose classes a config may name, e.g. [my_losses]; in the command alone"
    )
    task: Text = about("what to do; a file of conf/task")
    measure: Literal["basic", "full"] = about("what is measured at the end; a file of conf/measure")
    run: Text | None = about("directory of a finished run; null: the student of student.weights")
    input: Text | None = about(
        "what is classified: an image, a folder of them or a .npy file of images or event frames; null: nothing"
    )
    output: Text | None = about(
        "where it goes: FILE.csv or FILE.json of predictions, a folder for exports, hf://OWNER/NAME for format=hub; "
        "null: in the directory of the run"
    )
    format: Literal["onnx", "pt2", "nir", "hub"] = about(
        "what task=export writes: a file for another runtime, or (hub) the student with its model card"
    )
    runs: Text | list[Text] = about("a glob of finished runs, or a list of globs")


class ExitSettings(TaskSettings, group="exit"):
    """When `task=predict` stops early."""

    max_loss: Annotated[float, Field(ge=0, le=100)] | None = about(
        "points of accuracy that may be lost by stopping early; null: all steps"
    )
    bound: Literal["clopper_pearson", "conformal", "none"] = about(
        "what holds on other images: the loss with exit.confidence, the loss on average, or nothing"
    )
    confidence: OpenUnitInterval = about(
        "of clopper_pearson: how often the loss is not exceeded, over draws of the images"
    )


class ExportSettings(TaskSettings, group="export"):
    """What `task=export` writes and compares."""

    step: bool = about("true: besides, a model of one step with its states (onnx, pt2)")
    images: Count = about("held-out images that the written file is compared on")
    license: Text | None = about(
        "of the weights, for the model card of format=hub, as the Hub spells it, e.g. mit; null: not stated"
    )


class ReportSettings(TaskSettings, group="report"):
    """Where `task=report` writes, and what it compares."""

    dir: Text = about("where the page, the tables and the figures go")
    measure: Text = about("what runs are compared by: any number of result.json, e.g. test/ece, test/acc_t1")
    names: Text | None = about("a YAML file that says how the paper writes names, a line each, e.g. my_loss: Mine")
    baseline: str | None = about(
        "what the p-values compare with: a loss, or a row's name; null: vanilla_kd if it is there"
    )


class InitSettings(TaskSettings, group="init"):
    """What the experiment that `task=init` writes is called."""

    name: Text = about("of the experiment that is written, experiments/NAME.yaml")


class WatchSettings(TaskSettings, group="watch"):
    """Where `task=watch` serves its page."""

    host: Text = about("address to listen at; 0.0.0.0: whoever reaches this machine may look")
    port: Annotated[int, Field(ge=0, le=65535)] = about("number of the port; 0: one that is free")
    report: Text = about("report.dir of a report to link to, where it is one of runs that are shown")


class CleanSettings(TaskSettings, group="clean"):
    """What `task=clean` keeps, and whether it deletes the rest."""

    keep: Keep = about("which checkpoints finished runs keep beside their weights: none (weights), the last, or all")
    delete: bool = about("true: delete the others; false: only list them")


class DashboardSettings(TaskSettings, group="wandb"):
    """Where `task=report` makes a dashboard of W&B, if it does."""

    workspace: Text | None = about(
        "ENTITY/PROJECT: make a dashboard there; its definition goes to report.dir/workspace.json"
    )


class LoggingSettings(Settings, group="logging"):
    """What is logged while a run trains."""

    every_n_steps: Count = about("optimiser steps between two entries of the loss")
    trackio: Text | None = about(
        "project to log into with trackio as well, in machine.runs_dir/trackio or TRACKIO_DIR, e.g. snn; null: none"
    )


class WandbSettings(Settings, group="logging.wandb"):
    """Where W&B logs; what a command leaves open, W&B's own variables decide."""

    mode: Literal["auto", "online", "offline", "disabled"] = about("auto: online with a key, else offline")
    project: Text = about("name of W&B's project")
    entity: Text | None = about("user or team; null: W&B's default")
    group: Text | None = about("null: the sweep and the experiment")
    tags: list[Text] = about("of the run, beside those of loss, student and data")
    checkpoints: bool = about("true: keep the checkpoints of every run as an artifact")


class DebugSettings(Settings, group="debug"):
    """A trial: does it run at all?"""

    steps: Count | None = about("batches per epoch and split; null: all of them")
