// What of the admin page needs no browser:  node --test, in a directory with its modules, which are taken as such there
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bytes, clock, count, duration, latency, number, percentile, rates, Trend } from './figures.js';
import { cut, jsonProblem, readTags } from './json.js';
import { address, Pages, place } from './router.js';

const node = (more) => ({
  uid: 'a', at: 100, uptime: 50, connections: 3, users: 2, channels: 1, cpu: 1, publications_in: 10, publications_out: 10,
  deliveries: 10, bytes_out: 10, loop_lag: histogram(0, 0, 0), delivery_lag: histogram(0, 0, 0), ...more,
});
const histogram = (...counts) => ({ bounds: [0.5, 1.5], counts });

test('rates are of two answers of the same run', () => {
  const before = node();
  assert.equal(rates(before, node({ at: 102, publications_in: 30 })).publications_in, 10);
  assert.equal(rates(before, node({ at: 102, deliveries: 0 })), null, 'counters began anew');
  assert.equal(rates(before, node({ at: 102, uid: 'b' })), null);
  assert.equal(rates(before, node()), null, 'no time has passed');
});

test('a percentile counts what came since, spread within its bucket', () => {
  assert.equal(percentile(histogram(900, 0, 0), histogram(900, 0, 0), 0.99), null);
  assert.equal(percentile(histogram(900, 0, 0), histogram(900, 100, 0), 0.5), 1);
  assert.equal(percentile(undefined, histogram(50, 50, 0), 0.5), 0.5);
  assert.equal(percentile(undefined, histogram(98, 0, 2), 0.99), Infinity);
});

test('totals are sums, rates only where two answers compare', () => {
  const trend = new Trend();
  trend.add([node(), node({ uid: 'b' })], 1000);
  assert.deepEqual([trend.totals[0].connections, trend.totals[0].published], [6, null]);
  trend.add([node({ at: 102, publications_in: 30, loop_lag: histogram(0, 8, 0) }), node({ uid: 'c' })], 1002);
  assert.equal(trend.totals[1].published, 10);
  assert.ok(trend.of('a').loop > 1.4);
  assert.equal(trend.of('c').rate, null);
  trend.add([node({ at: 120, publications_in: 390 })], 1400);
  assert.equal(trend.of('a').rate.publications_in, 20, 'of the last two, be they far apart');
  assert.equal(trend.totals.length, 1, 'what is older than the drawing is forgotten');
});

test('figures are written for people', () => {
  assert.deepEqual([0, 3.42, 12.3, 1234, 1_234_567, null, NaN].map(number), ['0', '3.4', '12', '1,234', '1.23 M', '–', '–']);
  assert.deepEqual([0, 512, 1024, 3_500_000, 2 ** 41].map(bytes), ['0 B', '512 B', '1.0 KiB', '3.3 MiB', '2.0 TiB']);
  assert.deepEqual([0.0008, 0.0255, 1.25, null].map((each) => latency(each)), ['0.8 ms', '26 ms', '1.3 s', '–']);
  assert.equal(latency(Infinity, 10), '> 10 s');
  assert.deepEqual([-1, 12.7, 60, 3800, 273_600].map(duration), ['0 s', '12 s', '1 min', '1 h 3 min', '3 d 4 h']);
  const noon = new Date(2026, 0, 30, 12, 5, 9, 70);
  assert.equal(clock(noon / 1000, noon, 3), '12:05:09.070');
  assert.equal(clock(noon / 1000, new Date(2026, 0, 31)), '2026-01-30 12:05:09');
  assert.deepEqual([count(1, 'node'), count(2, 'node')], ['1 node', '2 nodes']);
});

test('what is JSON for JSON.parse is JSON here', () => {
  const texts = [
    '{}', '[]', ' [1, {"a": [true, null]}] ', '"\\u00e9\\n"', '-1.5e+3', '', '{', '{"a"}', '{"a":1,}', '[1,]', '[1 2]', '01', '1.',
    "{'a':1}", '{"a":x}', '"a\nb"', '"\\x"', 'truely', 'nul', '{} {}', ']', '[}', '{"a":1]', '\u00a01', '+1', '"', '[,1]', '-',
  ];
  for (const text of texts) {
    let valid = true;
    try { JSON.parse(text); } catch { valid = false; }
    assert.equal(jsonProblem(text) === null, valid, text);
  }
  assert.deepEqual(jsonProblem('{\n  "a": tru\n}'), { offset: 9, line: 2, column: 8, message: 'a value must come here' });
  assert.match(jsonProblem('{"a": [1').message, /the text ends, but a comma or the closing bracket/);
});

test('texts are cut between characters, tags read by lines', () => {
  assert.deepEqual([cut('abc', 3), cut('ab😀', 3)], [['abc', 0], ['ab', 2]]);
  assert.deepEqual(readTags('a=b=c\n\n x = y '), { a: 'b=c', x: 'y' });
  assert.throws(() => readTags('ok=1\nwrong'), /"wrong"/);
});

test('addresses hold any name', () => {
  const name = 'a/b?c=d#e %2f<é>';
  assert.deepEqual(place(address('channel', [name], { cursor: '', q: name })), { view: 'channel', parts: [name], query: { q: name } });
  assert.equal(place('').view, 'overview');
  assert.equal(place('#/%E0%A4').view, 'overview');
});

test('pages remember the way back', () => {
  const pages = new Pages().visit('').visit('b').visit('c').visit('c');
  assert.deepEqual([pages.number, pages.previous], [3, 'b']);
  assert.deepEqual([pages.visit('b').number, pages.previous], [2, '']);
  assert.equal(pages.visit('').previous, null);
});
