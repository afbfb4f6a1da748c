// The ranking and the totals. Between answers every score grows by its rate, exactly, and rows change places when their
// lines cross. Some more rows than are shown are known, so that who rises from below is there in time.
const ranking = { lines: [], rows: new Map(), places: 0, of: 0, order: '', total: null };

const headroom = 10;

// calm tells whether its reader wants nothing to move.
const stillness = matchMedia('(prefers-reduced-motion: reduce)');

function takeRanking(top) {
  ranking.lines = top.holders.map(h => lineOf(h, top.at));
  ranking.of = top.of;
  ranking.places = placesFor(ranking.lines.map(l => l.score), ranking.lines.map(l => l.rate));
  const ratePlaces = placesOf(ranking.lines.map(l => l.rate), rateDigits);
  const known = new Set(ranking.lines.map(l => l.id));
  for (const [id, row] of ranking.rows) {
    if (!known.has(id)) { row.tr.remove(); ranking.rows.delete(id); }
  }
  for (const line of ranking.lines) {
    let row = ranking.rows.get(line.id);
    if (!row) ranking.rows.set(line.id, row = newRow(line));
    say(row.rate, grouped(line.rate, rateDigits, ratePlaces));
    row.rate.title = plain(line.rate, rateDigits);
    say(row.open, count(line.open));
  }
  find('ranking-empty').hidden = top.holders.length > 0;
  find('ranking').hidden = top.holders.length === 0;
  ranking.order = ''; // addresses of links may have changed
}

// rateText is a rate with the digits it has.
const rateText = rate => grouped(rate, rateDigits, placesOf([rate], rateDigits));

function newRow(line) {
  const row = { rank: el('td', { class: 'number rank' }), link: linkTo(line.id), score: el('td', { class: 'number score' }), rate: el('td', { class: 'number wide rate' }), open: el('td', { class: 'number wide' }) };
  row.tr = el('tr', {}, row.rank, el('th', { scope: 'row' }, row.link), row.score, row.rate, row.open);
  return row;
}

// showRanking shows the ranking as it is at t.
function showRanking(t) {
  for (const line of ranking.lines) line.now = scoreAt(line, t);
  ranking.lines.sort(compareRanks);
  const visible = ranking.lines.slice(0, asked.n);
  visible.forEach((line, i) => {
    const row = ranking.rows.get(line.id);
    say(row.rank, String(i + 1));
    say(row.score, grouped(line.now, scoreDigits, ranking.places));
    row.tr.classList.toggle('chosen', line.id === asked.holder);
  });
  const order = visible.map(l => l.id).join('\u0000');
  if (order !== ranking.order) place(visible, order);
}

// place puts the rows in order; those that were there before slide to where they are now.
function place(visible, order) {
  const body = find('ranking').tBodies[0];
  const slide = ranking.order !== '' && !stillness.matches && visible.length <= 50;
  const before = new Map(slide ? [...body.rows].map((tr, i) => [tr, { top: tr.offsetTop, i }]) : []);
  const focused = body.contains(document.activeElement) ? document.activeElement : null;
  const rows = visible.map(l => {
    const row = ranking.rows.get(l.id);
    row.link.href = address({ holder: l.id });
    return row.tr;
  });
  rows.forEach((tr, i) => { if (body.rows[i] !== tr) body.insertBefore(tr, body.rows[i] ?? null); });
  while (body.rows.length > rows.length) body.rows[rows.length].remove();
  if (focused && document.activeElement !== focused) focused.focus({ preventScroll: true });
  rows.forEach((tr, i) => {
    const was = before.get(tr);
    if (!was || was.i === i) return;
    tr.animate([{ transform: `translateY(${was.top - tr.offsetTop}px)` }, { transform: 'none' }], { duration: 400, easing: 'ease-out' });
    if (was.i > i) tr.animate([{ backgroundColor: 'var(--risen)' }, { backgroundColor: 'transparent' }], { duration: 1500 });
  });
  ranking.order = order;
}

// nextBend is the first instant at which a line that is known bends, and its score is to be asked for again.
const nextBend = () => ranking.lines.reduce((t, l) => l.until !== null && l.until > l.at ? Math.min(t, l.until) : t, Infinity);

// exactly shows all digits of a number that is pointed at.
find('ranking').addEventListener('mouseover', event => {
  const cell = event.target.closest('td.score');
  const line = cell && ranking.lines.find(l => ranking.rows.get(l.id).score === cell);
  if (line) cell.title = `${plain(line.now, scoreDigits)} weight·s`;
});

function takeTotals(stats) {
  ranking.total = { at: ms(stats.at), until: null, score: units(stats.score_exact, scoreDigits), rate: units(stats.rate_exact, rateDigits) };
  say(find('total-rate'), rateText(ranking.total.rate));
  say(find('total-holders'), count(stats.holders));
  say(find('total-open'), count(stats.open_holds));
  say(find('total-holds'), count(stats.holds));
}

function showTotals(t) {
  const total = ranking.total, now = scoreAt(total, t);
  say(find('total-score'), grouped(now, scoreDigits, placesFor([total.score], [total.rate])));
  find('total-score').title = `${plain(now, scoreDigits)} weight·s`;
}
