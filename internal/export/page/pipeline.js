// The pipeline: how far each partition is folded, who serves it, what was refused; and what of it is out of order.

// When something is worth a word: an age or a delay of so many milliseconds.
const tooOld = 10_000;

function takePipeline(p) {
  const logs = p.logs ?? [];
  const at = ms(p.at);
  say(find('pipeline-note'), logs.map(l => `${l.stream}: ${l.lag === null ? 'lag not known' : l.lag === 0 ? 'all folded' : count(l.lag) + ' behind'}, heard from ${span(ms(l.age_seconds))} ago`).join(' · '));
  refill(find('pipeline-body'), el('div', { class: 'columns' },
    logs.length ? drawPartitions(p, at) : el('p', { class: 'empty' }, 'The state is not loaded yet.'),
    el('div', {}, drawWorkers(p, at), drawRefused(p.refused ?? {}))));
}

function drawPartitions(p, at) {
  const columns = [{ name: '#', number: true }, { name: 'Served by' }];
  for (const l of p.logs) columns.push({ name: `${l.stream} lag`, number: true }, { name: 'stored', number: true, unit: 'ago', wide: true });
  const rows = p.logs[0].partitions.map((_, i) => {
    const owner = p.owners?.[i];
    const row = [String(i), p.owners === null ? '?' : owner ? nameOf(p, owner.worker_id) : el('span', { class: 'bad' }, 'nobody')];
    for (const l of p.logs) {
      const part = l.partitions[i];
      const behind = part.behind_seconds > 0 ? ` for ${span(ms(part.behind_seconds))}` : '';
      row.push(part.lag === null ? '?' : part.lag === 0 ? '0' : el('span', { class: ms(part.behind_seconds) > tooOld ? 'bad' : '' }, count(part.lag) + behind));
      row.push(part.checkpoint === null ? '–' : span(at - ms(part.checkpoint)));
    }
    return row;
  });
  return table('Partitions', columns, rows);
}

// nameOf is what tells a worker from the others.
function nameOf(p, id) {
  const w = p.workers.find(w => w.id === id);
  return el('span', { title: `worker ${id}` }, w?.host ? `${shown(w.host)}/${w.pid}` : id.slice(0, 8));
}

function drawWorkers(p, at) {
  if (p.workers === null) return el('p', { class: 'empty' }, `Who serves the partitions is not known: ${p.workers_error}`);
  if (!p.workers.length) return el('p', { class: 'empty' }, 'No aggregator is running.');
  return table('Workers', [{ name: 'Worker' }, { name: 'State' }, { name: 'Partitions', number: true }, { name: 'Lag', number: true }, { name: 'Up for', number: true }],
    p.workers.map(w => [nameOf(p, w.id), w.state, count(w.partitions.length), w.lag.HOLDS === null || w.lag.POH === null ? '?' : count(w.lag.HOLDS + w.lag.POH), w.started === null ? '–' : span(Math.max(0, at - ms(w.started)))]));
}

function drawRefused(refused) {
  const reasons = Object.entries(refused).sort((a, b) => b[1] - a[1]);
  if (!reasons.length) return el('p', { class: 'empty' }, 'No event was refused.');
  return table('Refused events', [{ name: 'Reason' }, { name: 'Events', number: true }], reasons.map(([reason, n]) => [reason.replaceAll('_', ' '), count(n)]));
}

// notServed says which partitions have an owner that does not serve them: a sentence for those in the same state, with the reason of
// the first, which is said to be its alone if another has another.
function notServed(owners) {
  const alike = new Map();
  owners.forEach((owner, i) => {
    for (const stream of ['HOLDS', 'POH']) {
      const { state, reason } = owner?.[stream] ?? {};
      if (state !== 'failing' && state !== 'stopped') continue;
      const what = `of ${stream} ${state}`;
      if (!alike.has(what)) alike.set(what, { which: [], reason, differ: false });
      const all = alike.get(what);
      all.which.push(i);
      if (reason !== all.reason) all.differ = true;
    }
  });
  return [...alike].map(([what, { which, reason, differ }]) =>
    `${which.length === 1 ? 'Partition' : 'Partitions'} ${which.join(', ')} ${what}${differ ? ', the first' : ''}: ${reason}.`);
}

// troubles says what is out of order: the worst first, each in a sentence.
function troubles(p) {
  const said = [];
  for (const l of p.logs ?? []) {
    if (ms(l.age_seconds) > tooOld) said.push(`What is shown of ${l.stream} is ${span(ms(l.age_seconds))} old: the exporter has heard nothing since.`);
  }
  said.push(...p.problems.map(problem => `Not in order: ${problem}.`));
  if (p.workers !== null) {
    const nobody = p.owners.flatMap((o, i) => o ? [] : [i]);
    if (nobody.length === p.owners.length) said.push('No aggregator is running: what is published waits in the stream.');
    else if (nobody.length) said.push(`Nobody serves ${nobody.length === 1 ? 'partition' : 'partitions'} ${nobody.join(', ')}.`);
    said.push(...notServed(p.owners));
  }
  for (const l of p.logs ?? []) {
    const late = l.partitions.filter(part => ms(part.behind_seconds) > tooOld);
    const waiting = late.reduce((sum, part) => sum + part.lag, 0);
    if (late.length) said.push(`${l.stream}: ${late.length === 1 ? `partition ${late[0].partition} is` : `${late.length} partitions are`} ${count(waiting)} ${waiting === 1 ? 'message' : 'messages'} behind, for over ${span(tooOld)}.`);
  }
  return said;
}
