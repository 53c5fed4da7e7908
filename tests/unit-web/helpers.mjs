// Small records that the tests of the page's logic share.
export function job(id, values = {}) {
  return {
    id, state: 'running', owner: 'local', name: '', spec: { dataset: 'shapes', model: { preset: 'lenet5' } }, attempt: 1, epochs_done: 0, epochs: 4,
    device: 'cpu', worker: null, reason: null, cancel_requested: false, best_epoch: null, stopped_early: false, test_accuracy: null, verifies: null, verification: null, created: '2026-11-24T06:00:00.000000Z', started: null, ended: null, position: null, cursor: 10, ...values,
  };
}

export function epoch(id, number, classes = 3) {
  return {
    job: id, epoch: number, lr: 0.1, seconds: 2, images_per_second: 900,
    train: { loss: 1 / number, accuracy: 0.5 },
    test: { loss: 1.1 / number, accuracy: (40 + number) / 100, confusion: Array.from({ length: classes }, () => Array(classes).fill(1)), softmax: [[0.7, 0.2, 0.1]], labels: [0] },
  };
}
