// Proof of History: what the nodes did, at what rate, and how long it took.
const proofs = { heard: [] }; // the last answers, the newest last

const rateOver = 12_000; // rates are those of so many milliseconds

function takePoh(answer) {
  const at = ms(answer.at), heard = proofs.heard;
  if (heard.length && (heard.at(-1).revision > answer.revision || ms(heard.at(-1).at) > at)) heard.length = 0; // another stream, or another exporter
  heard.push(answer);
  while (heard.length > 2 && ms(heard[1].at) <= at - rateOver) heard.shift();

  say(find('poh-note'), answer.nodes === 0 ? '' : `${count(answer.nodes)} ${answer.nodes === 1 ? 'node' : 'nodes'}, ${count(answer.active_peers)} active peers`);
  if (answer.nodes === 0) {
    refill(find('poh-body'), el('p', { class: 'empty' }, 'No node has reported yet.'));
    return;
  }
  refill(find('poh-body'), drawProofs(answer), drawRequests(answer), drawCollections(answer));
}

// perSecond is the rate of a count that part takes from an answer.
function perSecond(part) {
  const first = proofs.heard[0], last = proofs.heard.at(-1);
  const seconds = last.at - first.at;
  if (seconds <= 0) return '–';
  const rate = Math.max(0, part(last) - part(first)) / seconds;
  return rate === 0 ? '0' : rate < 10 ? rate.toPrecision(2) : count(Math.round(rate));
}

const latencyColumns = [{ name: 'Count', number: true }, { name: 'Rate', number: true, unit: '1/s' }, { name: 'p50', number: true }, { name: 'p90', number: true, wide: true }, { name: 'p99', number: true }];

const latencyCells = (l, part) => [count(l.count), perSecond(part), latency(l.latency_seconds.p50), latency(l.latency_seconds.p90), latency(l.latency_seconds.p99)];

function drawProofs(answer) {
  const rows = [];
  for (const [kind, name] of [['issued', 'Issued'], ['verified', 'Verified']]) {
    for (const result of ['success', 'failure']) {
      rows.push([`${name}, ${result}`, ...latencyCells(answer[kind][result], a => a[kind][result].count)]);
    }
    if (answer[kind].unknown) { // latencies alone, of proofs that were counted apart
      rows.push([`${name}, result not told`, '–', '–', ...latencyCells(answer[kind].unknown, () => 0).slice(2)]);
    }
  }
  return table('Proofs', [{ name: 'Kind' }, ...latencyColumns], rows);
}

const mostSeries = 5;

// drawRequests shows the series with the most requests, of both kinds together.
function drawRequests(answer) {
  const series = [
    ...answer.http.series.map(s => ({ s, name: `${s.method} ${s.route} ${s.status}`, part: a => a.http.series.find(o => o.method === s.method && o.route === s.route && o.status === s.status)?.count ?? s.count })),
    ...answer.grpc.series.map(s => ({ s, name: `${s.method} ${s.code}`, part: a => a.grpc.series.find(o => o.method === s.method && o.code === s.code)?.count ?? s.count })),
  ].sort((a, b) => b.s.count - a.s.count);
  if (!series.length) return null;
  const left = answer.http.requests + answer.grpc.requests - series.slice(0, mostSeries).reduce((sum, { s }) => sum + s.count, 0);
  return el('div', {},
    table('Requests', [{ name: 'Kind' }, ...latencyColumns], series.slice(0, mostSeries).map(({ s, name, part }) => [idOf(name), ...latencyCells(s, part)])),
    left > 0 ? el('p', { class: 'note' }, `and ${count(left)} others, in `, el('a', { href: '/poh' }, '/poh'), '.') : null);
}

function drawCollections(answer) {
  const gc = Object.entries(answer.gc);
  return gc.every(([, n]) => n === 0) ? null : facts(gc.map(([type, n]) => [`Garbage collections, ${type}`, `${count(n)}, ${perSecond(a => a.gc[type])} a second`]));
}
