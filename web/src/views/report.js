// The classification report of an epoch's test, and the classes that are confused most.
import { h } from '../dom.js';
import { confusedClasses, reportRows } from '../metrics.js';

const COLUMNS = ['precision', 'recall', 'f1'];

function reportRow(row, { t, fmt }) {
  const name = row.average ? t(`report.${row.average}`) : row.name;
  return h('tr', { class: row.average ? 'average' : '', 'data-row': row.key }, h('th', { scope: 'row' }, name),
    COLUMNS.map((key) => h('td', {}, fmt.ratio(row[key]))), h('td', {}, fmt.whole(row.support)));
}

// "Accuracy 91.53%, top 5 99.80%, expected calibration error 0.021"; what was not measured is left out.
function summary(detail, { t, fmt }) {
  const parts = [t('report.accuracy', { value: fmt.percent(detail.accuracy) })];
  if (detail.top5 !== null) parts.push(t('report.top', { value: fmt.percent(detail.top5) }));
  if (detail.ece !== null) parts.push(t('report.ece', { value: fmt.ratio(detail.ece) }));
  return parts.join(' ');
}

export function reportTable(detail, classes, ctx) {
  const { t } = ctx;
  if (detail.report === null) return h('p', { class: 'hint' }, t('report.none'));
  const head = h('tr', {}, h('th', { scope: 'col' }, t('report.class')), [...COLUMNS, 'support'].map((key) => h('th', { scope: 'col' }, t(`report.${key}`))));
  return h('table', { class: 'numbers report' }, h('caption', {}, summary(detail, ctx)), h('thead', {}, head),
    h('tbody', {}, reportRows(detail.report, classes).map((row) => reportRow(row, ctx))));
}

export function confusedList(detail, classes, limit, { t, fmt }) {
  const rows = confusedClasses(detail.confused, classes, limit);
  if (rows.length === 0) return h('p', { class: 'hint' }, t('confusion.none'));
  return h('ol', { class: 'worst confused' }, rows.map((row) => h('li', {}, h('span', {}, row.name), h('span', { class: 'count' }, t('confusion.errors', { count: fmt.whole(row.count) })))));
}
