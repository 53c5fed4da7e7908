"""The page that accuracy.py writes: tests/bench/ACCURACY.md from the finished runs."""
import platform
import statistics

CLOSE = 0.3  # points that the means may differ by
WHERE = {"first": 0, "a quarter in": 1 / 4, "middle": 1 / 2, "three quarters in": 3 / 4, "last": 1}

HEAD = """# Accuracy

Written by `tests/bench/accuracy.py`; do not edit. {date} on {machine}.
"""

RECIPE_TEXT = """
## ResNet-20 on Fashion-MNIST, beside PyTorch

The same recipe in both: images padded to 32 x 32 and normalized, random crop with 4 pixels of padding, random flip, batches of 128, SGD with
momentum 0.9 and weight decay 1e-4, one cycle up to a rate of 0.1, He initialization. Ours runs as a job of the real daemon; PyTorch's side is
`tests/bench/peer_accuracy.py`. Accuracy of the test set after the last epoch, in percent, each seed and the mean; the difference of the means
is in points.

| epochs | precision | Residuum | mean | PyTorch | mean | difference | within {close} |
|---|---|---|---|---|---|---|---|
"""

DEEP_TEXT = """
## Plain-56 and ResNet-56: why depth alone does not help

Both have 56 layers, batch norm, and the same recipe in bf16, {epochs} epochs of {images} images, seed 1; only the shortcuts differ.

| epoch | {networks} |
|---|{lines}|
"""

NORMS_TEXT = """
The Euclidean norm of the gradient of each convolution's weights, mean over the steps of an epoch, as every job records it (and, in brackets,
that of the weights themselves):

| network | convolution | {epochs} |
|---|---|{lines}|
"""

WHY_TEXT = """
How much larger the largest of all these gradients is than the smallest, in the first epoch: {spread}

The plain network has the higher training loss as well: it is no overfitting. Going back through it, the gradient is multiplied by every
layer. With batch norm and He initialization that factor is a little above 1 at the start (Yang et al. 2019, "A mean field theory of batch
normalization"), and over 55 layers it adds up, so that the first layers get much larger gradients than the last ones and their weights are
thrown about before the later layers have learned anything. (With sigmoids, or without norm, the factor is below 1 and the gradient vanishes
instead.) A shortcut adds the identity, whose factor is exactly 1: in the residual network the gradients of all layers are of about the same
size.
"""


def percent(value):
    return f"{100 * value:.2f}"


def last_accuracies(runs, who, epochs, precision):
    """Of every seed that has run, in the order of the seeds."""
    start = f"{who} {epochs} {precision} "
    found = {int(name.removeprefix(start)): run for name, run in runs.items() if name.startswith(start) and name[len(start):].isdigit()}
    return [found[seed]["accuracies"][-1] for seed in sorted(found)]


def recipe_rows(runs, recipe):
    for epochs, precision in recipe:
        ours, peer = (last_accuracies(runs, who, epochs, precision) for who in ("ours", "peer"))
        cells = []
        for side in (ours, peer):
            cells += [", ".join(map(percent, side)) or "not run", percent(statistics.mean(side)) if side else ""]
        difference = 100 * (statistics.mean(ours) - statistics.mean(peer)) if ours and peer else None
        cells += ["", ""] if difference is None else [f"{difference:+.2f}", "yes" if abs(difference) <= CLOSE else "no"]
        yield f"| {epochs} | {precision} | " + " | ".join(cells) + " |"


def sides(runs):
    """What ran, for the reader who compares: versions and speed."""
    for who in ("ours", "peer"):
        found = [run for name, run in runs.items() if name.startswith(f"{who} ") and "limit" not in name]
        if found:
            minutes = sum(run["seconds"] for run in found) / 60
            yield f"{'Residuum' if who == 'ours' else 'PyTorch'}: {found[-1]['name']}, {len(found)} runs, {minutes:.0f} minutes."


def convolutions(epoch):
    """(name, gradient norm, weight norm) of the convolutions, from the first to the last."""
    weights = epoch["weights"]
    rows = zip(weights["name"], weights["gradient_norm"], weights["weight_norm"])
    return [row for row in rows if "conv" in row[0]]


def short(value):
    return "not finite" if value is None else f"{value:.3g}"


def norm_rows(model, epochs):
    last = len(convolutions(epochs[0])) - 1
    for where, share in WHERE.items():
        rows = [convolutions(epoch)[round(share * last)] for epoch in epochs]
        yield f"| {model} | {rows[0][0]} ({where}) | " + " | ".join(f"{short(g)} ({short(w)})" for _, g, w in rows) + " |"


def spread(model, epochs):
    norms = [gradient for _, gradient, _ in convolutions(epochs[0]) if gradient is not None]
    return f"{max(norms) / min(norms):.0f} times in {model}"


def deep_part(runs, models, size):
    epochs = {model: runs[f"deep {model}"] for model in models}
    networks = " | ".join(f"{model}: train loss | train accuracy | test accuracy" for model in models)
    text = DEEP_TEXT.format(epochs=size[0], images=size[1], networks=networks, lines="|".join(["---"] * 3 * len(models)))
    for i in range(size[0]):
        cells = [f"{e['train']['loss']:.3f} | {percent(e['train']['accuracy'])} | {percent(e['test']['accuracy'])}"
                 for e in (epochs[model][i] for model in models)]
        text += f"| {i + 1} | " + " | ".join(cells) + " |\n"
    text += NORMS_TEXT.format(epochs=" | ".join(f"epoch {i + 1}" for i in range(size[0])), lines="|".join(["---"] * size[0]))
    text += "".join(row + "\n" for model in models for row in norm_rows(model, epochs[model]))
    return text + WHY_TEXT.format(spread=", ".join(spread(model, epochs[model]) for model in models) + ".")


def machine():
    with open("/proc/cpuinfo") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {len(names)} threads"


def write_page(path, runs, recipe, models, size, date):
    text = HEAD.format(date=date, machine=machine()) + RECIPE_TEXT.format(close=CLOSE)
    text += "".join(row + "\n" for row in recipe_rows(runs, recipe)) + "".join(f"\n{side}\n" for side in sides(runs))
    if all(f"deep {model}" in runs for model in models):
        text += deep_part(runs, models, size)
    path.write_text(text)
