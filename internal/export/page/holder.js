// One holder: its score over time, its place among the others, its holds.
const holder = { answer: null, line: null, around: [], score: null, gaps: [] };

function takeHolder(answer) {
  const { ok, status, body, error } = answer;
  find('holder').hidden = false;
  find('holder-title').replaceChildren(idOf(asked.holder));
  if (!ok) {
    holder.answer = null;
    const known = error.known_since === undefined ? '' : ` It is known from ${instant(ms(error.known_since))} on.`;
    say(find('holder-said'), status === 404 ? 'There is no holder of exactly this id at that instant. Ids are told apart by every character, upper and lower case too; one that was published a moment ago may not be folded yet.' : error.reason + known);
    refill(find('holder-body'));
    return;
  }
  say(find('holder-said'), '');
  holder.answer = body;
  holder.line = lineOf(body, body.at);
  holder.around = body.around === null ? [] : body.around.holders.map(h => lineOf(h, body.around.at));
  drawHolder(clock.now());
}

function drawHolder(now) {
  const h = holder.answer, line = holder.line, t = asked.at ? line.at : now;
  holder.score = el('p', { class: 'big' });
  holder.gaps = [];
  const rank = h.rank === null ? 'not known for this instant' : `${count(h.rank)} of ${count(h.around.of)}`;
  refill(find('holder-body'),
    holder.score,
    facts([
      ['Rank', rank],
      ['Rate', el('span', {}, `${rateText(line.rate)} a second`, ...line.until === null ? [] : [', until ', moment(line.until)])],
      ['Open holds', `${count(h.open_holds)} of ${count(h.holds)}`],
      ['Last event', moment(ms(h.last_event))],
      ['Known since', knownSince(h)],
      ['Expires', h.expires === null ? null : el('span', {}, 'after ', moment(ms(h.expires)))],
    ]),
    el('p', { class: 'exact' }, 'Exactly ', el('span', { class: 'digits' }, h.score_exact), ` weight·s at ${instant(line.at)}`),
    drawLine(h.line, t),
    drawAround(h),
    drawWindows(h.windows),
    drawUnfinished(h.unfinished));
  tickHolder(t);
}

// knownSince is from when on a score or a window's is known.
const knownSince = of => of.known_since > 0 ? moment(ms(of.known_since)) : 'its beginning';

function drawLine(line, t) {
  if (!line.length) return null;
  const points = line.map(p => ({ at: ms(p.at), value: p.score, rate: p.rate }));
  const width = Math.max(280, find('holder-body').clientWidth);
  return el('figure', {},
    el('figcaption', {}, 'Score over time ', el('span', { class: 'unit' }, 'weight·s, UTC'), t < points[0].at ? ', which begins after this instant' : ''),
    chart(points, t, width),
    el('details', { 'data-focus': 'line' }, el('summary', { 'data-focus': 'line table' }, 'The same as a table'),
      table('From each instant on the score grows by the rate beside it', [{ name: 'From' }, { name: 'Score', number: true }, { name: 'Rate', number: true, unit: '1/s' }],
        line.map(p => [moment(ms(p.at)), p.score_exact, p.rate_exact]))));
}

// drawAround shows who stands before and behind, how far away, and when lines cross if rates stay.
function drawAround(h) {
  if (!holder.around.length) return null;
  const rows = holder.around.map((other, i) => {
    const self = other.id === h.holder_id;
    const gap = el('span');
    if (!self) holder.gaps.push({ gap, other });
    return [count(h.around.holders[i].rank), self ? el('strong', {}, idOf(other.id)) : linkTo(other.id), self ? 'this one' : gap, self ? '' : crossing(other, holder.line)];
  });
  const columns = [{ name: '#', number: true }, { name: 'Holder' }, { name: 'Ahead or behind by', number: true }, { name: 'Lines cross in', number: true }];
  const crosses = rows.some(row => /\d/.test(row[3]));
  return table('Neighbours', crosses ? columns : columns.slice(0, 3), crosses ? rows : rows.map(row => row.slice(0, 3)));
}

// crossing says when two lines cross, as far as both are known.
function crossing(a, b) {
  const apart = scoreAt(a, b.at) - b.score, closing = b.rate - a.rate;
  if (apart === 0n || closing === 0n || (apart > 0n) !== (closing > 0n)) return '–';
  const t = Number(apart / closing);
  const until = Math.min(a.until ?? Infinity, b.until ?? Infinity);
  return b.at + t <= until && t < 1e14 ? span(t) : '–';
}

function drawWindows(windows) {
  if (!windows.length) return null;
  return table('Windows', [{ name: 'The last' }, { name: 'Score', number: true, unit: 'weight·s' }, { name: 'Known since', number: true }],
    windows.map(w => [span(ms(w.seconds)), w.score_exact === null ? 'not known' : grouped(units(w.score_exact, scoreDigits), scoreDigits, 3), knownSince(w)]));
}

const mostUnfinished = 100;

function drawUnfinished(list) {
  if (!list.length) return el('p', { class: 'empty' }, 'Nothing is held at this instant, and nothing will be by what is known.');
  const more = list.length - mostUnfinished;
  return el('div', {},
    table('Holds that have not ended', [{ name: 'Token' }, { name: 'Hold', wide: true }, { name: 'Weight', number: true }, { name: 'Since' }, { name: 'Until' }],
      list.slice(0, mostUnfinished).map(u => [idOf(u.token_id), u.hold_id === null ? (u.balance ? 'balance' : '–') : idOf(u.hold_id), rateText(units(u.weight_exact, rateDigits)), moment(ms(u.start)), u.end === null ? 'open' : moment(ms(u.end))])),
    more > 0 ? el('p', { class: 'note' }, `and ${count(more)} more, in `, el('a', { href: '/holders' + query({ id: asked.holder }) }, 'the answer'), ' itself.') : null);
}

// tickHolder shows what changes by itself.
function tickHolder(t) {
  if (!holder.answer) return;
  const line = holder.line, now = scoreAt(line, t);
  say(holder.score, grouped(now, scoreDigits, placesFor([line.score], [line.rate])));
  holder.score.title = `${plain(now, scoreDigits)} weight·s`;
  for (const { gap, other } of holder.gaps) {
    const apart = scoreAt(other, t) - now;
    const places = placesFor([apart], [other.rate, line.rate]);
    say(gap, (apart < 0n ? '−' : '+') + grouped(apart < 0n ? -apart : apart, scoreDigits, places));
  }
}

function closeHolder() {
  holder.answer = null;
  find('holder').hidden = true;
}
