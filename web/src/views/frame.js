// The frame around the views: navigation, settings, connection, footer.
import { h, icon, setAttributes, setText, show, svg } from '../dom.js';
import { formatHash, SETTINGS } from '../settings.js';

// A residual block: the straight path and the shortcut around it.
function mark() {
  return svg('svg', { viewBox: '0 0 32 32', class: 'mark-logo', 'aria-hidden': 'true' },
    svg('path', { d: 'M9 3v26', class: 'straight' }), svg('path', { d: 'M9 7.5C29 6 29 25 9 23.5', class: 'shortcut' }), svg('circle', { cx: 9, cy: 23.5, r: 3.6 }));
}

function select(name, { t, actions }) {
  const box = h('select', { id: `set-${name}`, on: { change: () => actions.set(name, box.value) } },
    SETTINGS[name].values.map((value) => h('option', { value }, t(`setting.${name}.${value}`))));
  return { box, node: h('label', { for: `set-${name}` }, h('span', {}, t(`setting.${name}`)), box) };
}

function connectionBanner({ t, fmt, actions }) {
  const text = h('span', {});
  const button = h('button', { type: 'button', on: { click: () => actions.retryStream() } }, t('stream.retry'));
  const inner = h('div', { class: 'banner' }, icon('warning'), text, button);
  const node = h('div', { class: 'banner-place', role: 'status' });
  return {
    node,
    update({ status, since }) {
      if (status === 'lost') {
        setText(text, t('stream.lost', { time: fmt.clock(since) }));
        if (!inner.isConnected) node.append(inner);
      } else inner.remove();
    },
  };
}

const LAMP_TEXT = { connecting: 'stream.connecting', open: 'stream.open', lost: 'stream.offline', offline: 'stream.offline', paused: 'stream.paused' };

export function frame(ctx) {
  const { t } = ctx;
  const links = ['jobs', 'devices', 'submit'].map((view) => ({ view, node: h('a', {}, t(`nav.${view}`)) }));
  const home = h('a', { class: 'brand' }, mark(), h('span', {}, 'Residuum'));
  const lamp = h('span', { class: 'lamp' });
  const banner = connectionBanner(ctx);
  const main = h('main', { id: 'main', tabindex: '-1' });
  const skip = h('a', { class: 'skip', href: '#main', on: { click: (event) => { event.preventDefault(); main.focus(); } } }, t('app.skip'));
  const settings = ['lang', 'theme'].map((name) => ({ name, ...select(name, ctx) }));
  const version = h('span', {});
  const top = h('header', { class: 'top' }, h('div', { class: 'inner' }, home, h('nav', { 'aria-label': t('nav.label') }, links.map((link) => link.node)), lamp));
  const foot = h('footer', { class: 'foot' }, h('div', { class: 'inner' }, h('p', {}, version, ' ', h('a', { href: 'v1/openapi.json' }, t('footer.api'))), h('div', { class: 'settings' }, settings.map((row) => row.node))));

  function update(state, route, values) {
    home.href = formatHash({ view: 'jobs' }, values);
    for (const link of links) {
      const here = route.view === link.view || (link.view === 'jobs' && route.view === 'job');
      setAttributes(link.node, { href: formatHash({ view: link.view }, { lang: values.lang, theme: values.theme }), 'aria-current': here ? 'page' : null });
    }
    for (const row of settings) row.box.value = values[row.name];
    lamp.dataset.status = state.connection.status;
    setText(lamp, t(LAMP_TEXT[state.connection.status]));
    banner.update(state.connection);
    setText(version, state.version ? t('footer.version', { version: state.version.version }) : '');
    show(version, state.version);
  }
  return { nodes: [skip, top, banner.node, main, foot], main, update };
}
