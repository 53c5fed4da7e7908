// Jobs to begin from, one for each thing that the exercise asks to try. No DOM.

const job = (values) => JSON.stringify({ dataset: 'fashion-mnist', ...values }, null, 2);
const conv = (name, inputs, kernel) => ({ name, op: 'conv', ...(inputs ? { inputs: [inputs] } : {}), out_channels: 16, kernel, padding: (kernel - 1) / 2 });

// Keys of texts, and the documents.
export const EXAMPLES = [
  { key: 'submit.example.minimal', text: job({ model: 'resnet20' }) },
  { key: 'submit.example.plain', text: job({ name: 'without shortcuts', model: 'plain20', epochs: 5, seed: 1 }) },
  { key: 'submit.example.sigmoid', text: job({ model: { preset: 'resnet20', overrides: [{ stage: 1, activation: 'sigmoid' }] } }) },
  { key: 'submit.example.stride', text: job({ model: { preset: 'simplecnn', downsampling: 'stride' } }) },
  { key: 'submit.example.validation', text: job({ model: 'resnet20', epochs: 30, validation_fraction: 0.1, selection: { patience: 5 }, schedule: { kind: 'constant', lr: 0.05 } }) },
  { key: 'submit.example.adam', text: job({ model: 'simplecnn', optimizer: { kind: 'adam' }, schedule: { kind: 'cosine', lr: 0.001 } }) },
  {
    key: 'submit.example.branch',
    text: job({
      model: {
        layers: [
          conv('conv1', null, 3),
          { name: 'act1', op: 'activation', kind: 'relu' },
          { name: 'pool1', op: 'max_pool', kernel: 2 },
          conv('narrow', 'pool1', 3),
          conv('wide', 'pool1', 5),
          { name: 'both', op: 'concat', inputs: ['narrow', 'wide'] },
          { name: 'act2', op: 'activation', kind: 'relu' },
          { name: 'pool2', op: 'global_avg_pool' },
          { name: 'fc', op: 'linear', out_features: 'classes' },
        ],
      },
    }),
  },
];
