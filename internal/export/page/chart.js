// The chart of a holder's score over time: one line, which is straight between its points, solid as far as it is past and
// dashed where it lies ahead.

// chart draws a line, given as points {at, value, rate} in milliseconds, weight·seconds and their rate, at the instant t. If t is before
// its first point, that is not marked.
function chart(points, t, width) {
  const height = 200, left = 62, right = 14, top = 10, bottom = 34;
  const value = at => {
    const p = points.findLast(p => p.at <= at) ?? points[0];
    return p.value + p.rate * Math.max(0, at - p.at) / 1000;
  };
  const from = points[0].at;
  // Some of what lies ahead, and the bends that are near.
  const past = Math.max(t - from, 60_000);
  const until = from + past + Math.min(past, Math.max(past / 5, ...points.map(p => p.at - t + past / 20)));
  const highest = value(until) || 1;
  const x = at => left + (at - from) / (until - from) * (width - left - right);
  const y = v => height - bottom - v / highest * (height - top - bottom);
  const path = (a, b) => [a, ...points.map(p => p.at).filter(at => at > a && at < b), b].map(at => `${x(at).toFixed(1)},${y(value(at)).toFixed(1)}`).join(' ');
  const marks = niceMarks(highest);
  const now = Math.min(Math.max(t, from), until), marked = t >= from;
  const ends = [[left, 'start', from], [width - right, 'end', until]];
  return el('svg:svg', { width, height, viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': `Score from ${instant(from)} on; ${marked ? `${roughly(value(now))} weight·seconds at ${instant(now)}` : 'that is later than the instant shown'}. The table below has the same.` },
    ...marks.map(v => el('svg:g', { class: 'mark' },
      el('svg:line', { x1: left, x2: width - right, y1: y(v), y2: y(v) }),
      el('svg:text', { x: left - 6, y: y(v) + 4, 'text-anchor': 'end' }, roughly(v)))),
    el('svg:polygon', { class: 'past', points: `${x(from)},${y(0)} ${path(from, now)} ${x(now)},${y(0)}` }),
    el('svg:polyline', { class: 'line', points: path(from, now) }),
    el('svg:polyline', { class: 'line ahead', points: path(now, until) }),
    ...points.filter(p => p.at > from && p.at < until).map(p => el('svg:circle', { class: 'bend', r: 2.5, cx: x(p.at), cy: y(p.value) })),
    ...marked ? [
      el('svg:line', { class: 'now', x1: x(now), x2: x(now), y1: top, y2: height - bottom }),
      el('svg:circle', { class: 'here', r: 4, cx: x(now), cy: y(value(now)) }),
      el('svg:text', { class: 'axis', x: Math.min(Math.max(x(now), left + 14), width - right - 14), y: height - bottom + 14, 'text-anchor': 'middle' }, asked.at ? 'at' : 'now'),
    ] : [],
    ...ends.map(([at, anchor, when]) => el('svg:text', { class: 'axis', x: at, y: height - 4, 'text-anchor': anchor }, instant(when).slice(0, until - from > 172_800_000 ? 10 : 19))));
}

// niceMarks are three to six round numbers from 0 to the highest.
function niceMarks(highest) {
  const raw = highest / 4, size = 10 ** Math.floor(Math.log10(raw));
  const step = size * [1, 2, 2.5, 5, 10].find(m => m * size >= raw);
  const marks = [];
  for (let v = 0; v <= highest; v += step) marks.push(v);
  return marks;
}
