#!/usr/bin/python3
"""Writes the cases beside this file: softmax rows, labels, and what scikit-learn says of them (1.2.1 made them); the expected calibration
error, which scikit-learn has not, by the formula of Guo et al. 2017 in numpy. Needs sklearn, numpy."""
import json
from pathlib import Path

import numpy as np
import sklearn
from sklearn import metrics

BINS = 15
AVERAGES = {"macro": "macro avg", "weighted": "weighted avg"}


def calibration_error(softmax, labels):
    confidence, right = softmax.max(1), softmax.argmax(1) == labels
    error = 0.0
    for low, high in zip(np.arange(BINS) / BINS, np.arange(1, BINS + 1) / BINS):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return error


def report(labels, predicted, classes):
    found = metrics.classification_report(labels, predicted, labels=range(classes), output_dict=True, zero_division=0)
    columns = {"precision": "precision", "recall": "recall", "f1": "f1-score", "support": "support"}
    rows = {name: [float(found[str(c)][key]) for c in range(classes)] for name, key in columns.items()}
    means = {name: {"precision": found[key]["precision"], "recall": found[key]["recall"], "f1": found[key]["f1-score"]}
             for name, key in AVERAGES.items()}
    return rows | means


def case(rng, classes, images, sharpness, absent=(), never=()):
    """Labels without the absent classes; predictions that never name some."""
    labels = rng.choice([c for c in range(classes) if c not in absent], images)
    logits = rng.normal(0, 1, (images, classes)) * sharpness
    logits[np.arange(images), labels] += sharpness
    logits[:, list(never)] = -20 - np.arange(len(never))  # no ties: scikit-learn ranks them otherwise
    softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    softmax = softmax.astype(np.float32).astype(np.float64)
    predicted = softmax.argmax(1)
    return {
        "sklearn": sklearn.__version__, "classes": classes,
        "softmax": [[float(f"{p:.9g}") for p in row] for row in softmax], "labels": labels.tolist(),
        "loss": -np.log(softmax[np.arange(images), labels]).mean(),
        "accuracy": metrics.accuracy_score(labels, predicted),
        "top5": metrics.top_k_accuracy_score(labels, softmax, k=5, labels=range(classes)) if classes > 5 else None,
        "ece": calibration_error(softmax, labels),
        "confusion": metrics.confusion_matrix(labels, predicted, labels=range(classes)).tolist(),
        "report": report(labels, predicted, classes),
    }


def main():
    rng = np.random.default_rng(3)
    cases = {
        "two": case(rng, 2, 40, 1.0),
        "five": case(rng, 5, 30, 1.5, absent=[2], never=[4]),
        "six": case(rng, 6, 50, 0.7, absent=[0, 3], never=[0, 5]),
        "ten": case(rng, 10, 120, 1.2),
    }
    for name, content in cases.items():
        (Path(__file__).parent / f"{name}.json").write_text(json.dumps(content) + "\n")


main()
