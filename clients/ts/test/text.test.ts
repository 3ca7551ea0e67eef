import { expect, test } from 'vitest';
import { isOver, toJSON, wellFormed } from '../src/text.js';

const HALVES = ['\ud83d', '\ude00', '\ud800', '\udbff', '\udc00', '\udfff'];
const PARTS = [
  ...HALVES,
  '😀',
  '\ud7ff',
  '\ue000',
  '\ufffd',
  'u',
  'd',
  '\\',
  '\\u',
  '\\ud83d',
  '"',
  '\n',
  '\u2028',
  'ä',
  '',
];

test.each([
  ['', ''],
  ['ab😀'.slice(0, 3), 'ab\ufffd'],
  ['😀'.slice(1), '\ufffd'],
  ['\ude00\ud83d', '\ufffd\ufffd'],
  ['\ud83d\ud83d\ude00\ude00', '\ufffd😀\ufffd'],
  ['😀', '😀'],
  ['\ud7ff\ue000', '\ud7ff\ue000'],
  ['\\ud83d', '\\ud83d'],
])('%j becomes %j', (text, expected) => {
  expect(wellFormed(text)).toBe(expected);
  expect(JSON.parse(toJSON([text, { [text]: text }]))).toEqual([expected, { [expected]: expected }]);
});

test('any two and three parts of a text become what they should', () => {
  for (const a of PARTS)
    for (const b of PARTS)
      for (const c of PARTS) {
        const text = a + b + c;
        const expected = Buffer.from(text).toString(); // UTF-8 and back
        expect(wellFormed(text)).toBe(expected);
        expect(toJSON([text])).toBe(JSON.stringify([expected]));
      }
});

test('the size is counted in bytes of UTF-8', () => {
  for (const text of ['', 'abc', 'äöü', '€', '😀😀'].map((t) => JSON.stringify(t))) {
    const size = Buffer.byteLength(text);
    expect([isOver(text, size), isOver(text, size - 1)]).toEqual([false, true]);
  }
});
