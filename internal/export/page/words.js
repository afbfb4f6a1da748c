// Words: how instants, spans, ids and tables are put before people. Text comes into the document as text alone.

// el makes an element. Properties that begin with "on" are listeners, others attributes; children are nodes or text.
function el(name, properties = {}, ...children) {
  const e = name.startsWith('svg:') ? document.createElementNS('http://www.w3.org/2000/svg', name.slice(4)) : document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === false) continue;
    if (key.startsWith('on')) e.addEventListener(key.slice(2), value);
    else e.setAttribute(key, value === true ? '' : value);
  }
  e.append(...children.filter(c => c !== null && c !== undefined));
  return e;
}

const find = id => document.getElementById(id);

// say sets an element's text if it is another: a screen reader then hears changes alone.
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// shown is an id as it can be read: what would be invisible, break the line or turn it round is shown as what it is.
function shown(id) {
  return id.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cn}]|^ | $/gu, c => {
    const code = c.codePointAt(0);
    if (code < 0x20) return String.fromCodePoint(0x2400 + code);
    return c === ' ' ? '␣' : code === 0x7f ? '␡' : '‹U+' + code.toString(16).toUpperCase().padStart(4, '0') + '›';
  });
}

// idOf is an element with an id, whose direction does not spill over into what stands around it.
const idOf = id => el('bdi', { class: 'id' }, shown(id));

const instant = t => new Date(t).toISOString().replace('T', ' ').replace(/(\.000)?Z$/, '');
const clockTime = t => new Date(t).toISOString().slice(11, 19);

// moment is an instant as an element, to the second; pointed at, it shows all of it.
const moment = t => t === null ? '–' : el('time', { datetime: new Date(t).toISOString(), title: instant(t) }, ...instant(t).slice(0, 19).split(/(?= )/).map(part => el('span', {}, part)));

// span is a span of milliseconds in words, by its two largest parts.
function span(t) {
  if (t < 1000) return t <= 0 ? '0 s' : t < 100 ? '0.1 s' : (t / 1000).toFixed(1) + ' s';
  const parts = [['y', 31557600], ['d', 86400], ['h', 3600], ['min', 60], ['s', 1]];
  let seconds = Math.round(t / 1000);
  const said = [];
  for (const [name, size] of parts) {
    const n = Math.floor(seconds / size);
    seconds -= n * size;
    if (n > 0) said.push(`${count(n)} ${name}`);
    else if (said.length) break;
    if (said.length === 2) break;
  }
  return said.join(' ');
}

// latency is a latency given in seconds, with three digits and the unit that fits; null is unknown.
function latency(seconds) {
  if (seconds === null || seconds === undefined) return '–';
  for (const [unit, size] of [['s', 1], ['ms', 1e-3], ['µs', 1e-6]]) {
    if (seconds >= size) return (seconds / size).toPrecision(3) + ' ' + unit;
  }
  return Math.round(seconds * 1e9) + ' ns';
}

// roughly is a number for an axis: 1.5 M.
function roughly(x) {
  for (const [size, name] of [[1e15, ''], [1e12, ' T'], [1e9, ' G'], [1e6, ' M'], [1e4, ' k']]) {
    if (Math.abs(x) >= size) return name ? Number((x / (name === ' k' ? 1e3 : size)).toPrecision(4)) + name : x.toExponential(2).replace('e+', 'e');
  }
  return String(Number(x.toPrecision(6)));
}

// table makes a table. A column is {name, number, unit, wide}; a row is a list of texts or nodes, the first naming the row.
function table(caption, columns, rows) {
  const of = c => (c.number ? 'number' : '') + (c.wide ? ' wide' : '');
  return el('div', { class: 'scroll' }, el('table', {},
    el('caption', {}, caption),
    el('thead', {}, el('tr', {}, ...columns.map(c => el('th', { scope: 'col', class: of(c) }, c.name, c.unit ? el('span', { class: 'unit' }, ' ' + c.unit) : null)))),
    el('tbody', {}, ...rows.map(row => el('tr', {}, ...row.map((cell, i) =>
      el(i === 0 ? 'th' : 'td', { scope: i === 0 ? 'row' : null, class: of(columns[i]) }, cell)))))));
}

// facts makes a list of names and values; a pair whose value is null is left out.
const facts = pairs => el('dl', { class: 'facts' }, ...pairs.filter(([, value]) => value !== null).map(([name, value]) => el('div', {}, el('dt', {}, name), el('dd', {}, value))));

// refill puts new content in the place of old, and keeps the focus, what is unfolded and where it is scrolled to.
function refill(element, ...children) {
  const focused = element.contains(document.activeElement) ? document.activeElement.dataset.focus : undefined;
  const open = [...element.querySelectorAll('details[open]')].map(d => d.dataset.focus);
  const scrolled = [...element.querySelectorAll('.scroll')].map(s => s.scrollLeft);
  element.replaceChildren(...children.filter(c => c !== null));
  for (const d of element.querySelectorAll('details')) d.open = open.includes(d.dataset.focus);
  element.querySelectorAll('.scroll').forEach((s, i) => { if (scrolled[i]) s.scrollLeft = scrolled[i]; });
  if (focused !== undefined) element.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}
