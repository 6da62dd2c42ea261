import torch

from tser_lightning.measure.exit_curve import THRESHOLDS, ExitCurve


def test_the_curve_is_that_of_a_loop_over_images_however_they_are_batched() -> None:
    generator = torch.Generator().manual_seed(0)
    logits_TBC = 4 * torch.randn(3, 17, 4, generator=generator)
    labels_B = torch.randint(4, (17,), generator=generator)
    temperatures = (2.0, 1.0, 0.5)
    curve = ExitCurve(temperatures)
    curve.update(logits_TBC[:, :5], labels_B[:5])
    curve.update(logits_TBC[:, 5:], labels_B[5:])
    points = curve.points()
    assert [point["threshold"] for point in points] == list(THRESHOLDS)
    for point in points:
        steps, right = 0, 0
        for image in range(17):
            for t in range(1, 4):
                mean_C = logits_TBC[:t, image].sum(0) / t
                if t == 3 or float((mean_C / temperatures[t - 1]).softmax(0).max()) >= point["threshold"]:
                    steps, right = steps + t, right + int(mean_C.argmax() == labels_B[image])
                    break
        assert (point["mean_steps"], point["accuracy"]) == (steps / 17, 100 * right / 17)
    assert ExitCurve().points() == []
