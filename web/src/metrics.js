// Numbers derived from a confusion matrix and softmax rows. No DOM.

const sum = (row) => row.reduce((total, value) => total + value, 0);

export function className(classes, index) {
  return classes[index] ?? String(index);
}

// Rows of the matrix with each cell's share of its true class, and totals. Row = true class, column = predicted class.
export function confusionView(confusion, classes) {
  const rows = confusion.map((counts, actual) => {
    const total = sum(counts);
    const cells = counts.map((count, predicted) => ({ count, predicted, share: total ? count / total : 0, correct: actual === predicted }));
    return { actual, name: className(classes, actual), total, cells, recall: total ? counts[actual] / total : null };
  });
  const total = sum(rows.map((row) => row.total));
  const correct = sum(rows.map((row) => row.cells[row.actual]?.count ?? 0));
  return { rows, names: confusion.map((_, i) => className(classes, i)), total, correct };
}

// The classes most often taken for another one, largest count first.
export function mostConfused(confusion, classes, limit) {
  const pairs = [];
  confusion.forEach((counts, actual) => {
    counts.forEach((count, predicted) => {
      if (actual !== predicted && count > 0) pairs.push({ actual, predicted, count, share: count / sum(counts) });
    });
  });
  pairs.sort((a, b) => b.count - a.count || a.actual - b.actual || a.predicted - b.predicted);
  return pairs.slice(0, limit).map((pair) => ({
    ...pair,
    actualName: className(classes, pair.actual),
    predictedName: className(classes, pair.predicted),
  }));
}

// The classes taken most often for another one, or another one for them, as the server counted them.
export function confusedClasses(confused, classes, limit) {
  return confused.slice(0, limit).map((row) => ({ name: className(classes, row.class), count: row.count }));
}

// The classification report as rows: the classes, then both averages. Support of an average is that of all images.
export function reportRows(report, classes) {
  const total = sum(report.support);
  const rows = report.support.map((support, i) => ({
    key: `class-${i}`, name: className(classes, i), precision: report.precision[i], recall: report.recall[i], f1: report.f1[i], support,
  }));
  const average = (key) => ({ key, average: key, ...report[key], support: total });
  return [...rows, average('macro'), average('weighted')];
}

export const LOG_FLOOR = -6; // the bars' axis runs from 10^-6 to 1

// Width of a bar on a log scale, 0 to 1; what is below the axis has no bar.
export function logShare(probability) {
  if (!(probability > 0)) return 0;
  return Math.min(1, Math.max(0, 1 - Math.log10(probability) / LOG_FLOOR));
}

function largest(row) {
  return row.reduce((best, value, i) => (value > row[best] ? i : best), 0);
}

// Per image: true and predicted class and a bar per class. labels may be missing (then actual is null).
export function softmaxView(softmax, labels, classes) {
  return softmax.map((row, index) => {
    const predicted = largest(row);
    const actual = Number.isInteger(labels[index]) ? labels[index] : null;
    return {
      number: index + 1,
      actual,
      predicted,
      correct: actual === null ? null : actual === predicted,
      actualName: actual === null ? null : className(classes, actual),
      predictedName: className(classes, predicted),
      bars: row.map((probability, i) => ({ name: className(classes, i), probability, share: logShare(probability), actual: i === actual, predicted: i === predicted })),
    };
  });
}
