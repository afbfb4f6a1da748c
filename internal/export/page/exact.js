// Exact numbers. A score is a BigInt in units of 10⁻¹² weight·seconds, a rate one in units of 10⁻⁹ weight·seconds a second:
// so rate × milliseconds is a score, without rounding. Instants are Unix milliseconds.
const scoreDigits = 12, rateDigits = 9;

// units reads a plain decimal as an integer of 10^-digits.
function units(decimal, digits) {
  const [whole, fraction = ''] = decimal.split('.');
  return BigInt(whole + fraction.padEnd(digits, '0'));
}

// plain writes such an integer as a plain decimal without trailing zeros, as the exporter does.
function plain(n, digits) {
  const text = n.toString().padStart(digits + 1, '0');
  const fraction = text.slice(-digits).replace(/0+$/, '');
  return text.slice(0, -digits) + (fraction ? '.' + fraction : '');
}

// grouped writes it for people, cut to so many places: 1,234,567.8. What is longer than fits becomes 1.234567×10²¹.
function grouped(n, digits, places) {
  const text = n.toString().padStart(digits + 1, '0');
  const whole = text.slice(0, -digits), fraction = text.slice(-digits).slice(0, places);
  if (whole.length > 15) {
    return whole[0] + '.' + whole.slice(1, 9) + '×10' + [...String(whole.length - 1)].map(d => '⁰¹²³⁴⁵⁶⁷⁸⁹'[d]).join('');
  }
  return whole.replace(/\B(?=(\d{3})+$)/g, ',') + (places > 0 ? '.' + fraction : '');
}

// placesOf is how many places numbers have, 3 at most.
const placesOf = (list, digits) => Math.min(3, Math.max(0, ...list.map(n => (plain(n, digits).split('.')[1] ?? '').length)));

const count = n => n.toLocaleString('en');

// placesFor says how many places make numbers with these rates worth watching, and show what they have: 0 to 3.
function placesFor(scores, rates) {
  const unit = 10n ** BigInt(rateDigits);
  const slowest = rates.filter(r => r > 0n).reduce((a, b) => a < b ? a : b, 100n * unit);
  const ticking = slowest >= 10n * unit ? 0 : slowest >= unit ? 1 : slowest >= unit / 10n ? 2 : 3;
  const whole = rates.every(r => r === 0n) && scores.every(s => s % 10n ** BigInt(scoreDigits) === 0n);
  return whole ? 0 : rates.every(r => r === 0n) ? 3 : ticking;
}

// ms reads an instant of an answer; null stays null.
const ms = seconds => seconds === null ? null : Math.round(seconds * 1000);

// lineOf reads what an answer says of a holder's score: its line from the answer's instant on.
function lineOf(answer, at) {
  return {
    id: answer.holder_id, key: utf8.encode(answer.holder_id), at: ms(at), until: ms(answer.rate_until),
    score: units(answer.score_exact, scoreDigits), rate: units(answer.rate_exact, rateDigits), open: answer.open_holds,
  };
}

const utf8 = new TextEncoder();

// scoreAt is the score of a line at t, which is known until the line bends.
function scoreAt(line, t) {
  const until = line.until === null ? t : Math.min(t, line.until);
  return line.score + line.rate * BigInt(Math.max(0, Math.floor(until) - line.at));
}

// compareRanks orders as every ranking of Holdfast is: the higher score first, then by the bytes of the id in UTF-8. (A
// string of JavaScript compares by units of UTF-16, which is another order.)
function compareRanks(a, b) {
  if (a.now !== b.now) return a.now > b.now ? -1 : 1;
  for (let i = 0; i < a.key.length && i < b.key.length; i++) {
    if (a.key[i] !== b.key[i]) return a.key[i] - b.key[i];
  }
  return a.key.length - b.key.length;
}
