/**
 * Every row, rule, obligation and decision of the reference that concerns this project has a test that names it, or an
 * exemption with a reason.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { EXEMPTIONS } from './exemptions.js';
import { required } from './reference.js';
import { citations, scan } from './titles.js';

const root = new URL('../../', import.meta.url);
const reference = readFileSync(new URL('docs/sdxi-1.0.md', root), 'utf8');

const scans = readdirSync(new URL('test/', root), { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.test.ts') && !name.startsWith('meta/'))
  .map((name) => scan(name, readFileSync(new URL(`test/${name}`, root), 'utf8')));
const titles = scans.flatMap((one) => one.titles);
const covered = new Set(titles.flatMap(({ text }) => citations(text)));
const wanted = required(reference);

describe('the reference and the tests', () => {
  it('the reference has the tables that this test reads', () => {
    const count = (start: string) => wanted.filter((item) => item.startsWith(start)).length;
    expect(count('ref §3.2 ')).toBe(24);
    expect(count('ref §3.3 rule')).toBe(9);
    expect(count('ref §6.5 ')).toBe(10);
    expect(count('ref §8.3 ')).toBe(17);
    expect(count('ref §13.4 ')).toBe(6);
    expect(count('ref §13.5 ')).toBe(7);
    expect(count('ref §13.6 ')).toBe(20);
    expect(count('O-')).toBe(30);
    expect(count('S-')).toBe(129);
    expect(new Set(wanted).size).toBe(wanted.length);
  });

  it('every row, rule, obligation and decision has a test that names it, or an exemption', () => {
    expect(wanted.filter((item) => !covered.has(item) && !(item in EXEMPTIONS))).toEqual([]);
  });

  it('no exemption is for something that has a test', () => {
    expect(Object.keys(EXEMPTIONS).filter((item) => covered.has(item))).toEqual([]);
  });

  it('every exemption is for something the reference has, and says why', () => {
    expect(Object.keys(EXEMPTIONS).filter((item) => !wanted.includes(item))).toEqual([]);
    for (const [item, reason] of Object.entries(EXEMPTIONS)) expect(reason.length, item).toBeGreaterThan(30);
  });

  it('no test names a row, rule, cell or number that the reference does not have', () => {
    const known = new Set(wanted);
    // Only of tables that are counted here: other sections have rows too, and tests may name them.
    const counted = /^(S-|O-|ref §(3\.2|3\.3|6\.5|8\.3|13\.4|13\.5|13\.6) )/;
    const unknown = titles.flatMap(({ file, line, text }) =>
      citations(text)
        .filter((item) => counted.test(item) && !known.has(item))
        .map((item) => `${file}:${line} ${item}`),
    );
    expect(unknown).toEqual([]);
  });

  it('no test is switched off', () => {
    expect(scans.flatMap((one) => one.disabled)).toEqual([]);
  });
});

describe('this test itself', () => {
  const found = (source: string) => scan('x.test.ts', source).titles.map(({ text }) => text);

  it('reads titles through describes, templates, tables and constants', () => {
    expect(found(`it('O-1 a', () => {}); test("O-2", f); it(\`O-3 \${x} b\`, f);`)).toEqual(['O-1 a', 'O-2', 'O-3 ? b']);
    expect(found(`describe('ref §13.5: rows', () => { describe('x', () => { it('row 1: y', f); }); });`)).toEqual([
      'ref §13.5: rows > x > row 1: y',
    ]);
    expect(found(`it.each([['S-1', 5], ['S-2', n]])('%s with %d', f);`)).toEqual(['S-1 with 5', 'S-2 with ?']);
    expect(found(`it.each(['S-1', 'S-2'])('%s', f);`)).toEqual(['S-1', 'S-2']);
    expect(found(`it.each([{ name: 'S-1' }])('$name', f);`)).toEqual(['S-1']);
    expect(found(`const T: X[] = [['S-1'], ['S-2']]; it.each(T)('%s', f);`)).toEqual(['S-1', 'S-2']);
    expect(found(`const T = [['S-1']] as const; describe.each(T)('a %s', () => { it.each([1, 2])('b %d', f); });`)).toEqual([
      'a S-1 > b 1',
      'a S-1 > b 2',
    ]);
    expect(found(`for (const t of T) it(\`\${t}: S-4\`, f);`)).toEqual(['?: S-4']);
    expect(found(`it('S-5', { timeout: 3 }, () => {});`)).toEqual(['S-5']);
  });

  it('takes nothing that is not printed: cells without a placeholder, comments, other strings', () => {
    expect(found(`it.each([['a', 'S-1']])('%s', f); // S-2\nconst x = 'S-3'; expect('S-4');`)).toEqual(['a']);
    expect(found(`describe('S-9 with no test inside', () => {});`)).toEqual([]);
  });

  it('takes nothing of tests that are switched off, and reports them', () => {
    const { titles: none, disabled } = scan(
      'x.test.ts',
      `it.skip('S-1', f);\ndescribe.skip('S-2', () => { it('a', f); });\nit.todo('S-3');`,
    );
    expect(none).toEqual([]);
    expect(disabled).toEqual(['x.test.ts:1', 'x.test.ts:2', 'x.test.ts:3']);
  });

  it('understands citations: a row belongs to the section named last before it', () => {
    expect(citations('S-7 O-16 ref §8.3 row 9 x')).toEqual(['S-7', 'O-16', 'ref §8.3 row 9']);
    expect(citations('ref §13.5: a > row 1: b, row 2')).toEqual(['ref §13.5 row 1', 'ref §13.5 row 2']);
    expect(citations('row 3 ref §6.5 a ref §8.3 row 4')).toEqual(['ref §8.3 row 4']);
    expect(citations('ref §3.2 STOPG_SF × STOP_HD: x; ref §3.3 rule 2')).toEqual(['ref §3.2 STOPG_SF × STOP_HD', 'ref §3.3 rule 2']);
    expect(citations('§8.3 row 4, AS-1, S-1x')).toEqual([]);
  });

  it('notices a new row, a new number, and a test that is gone', () => {
    const number = ['S', 900].join('-'); // in one piece it would be a citation of this file
    const grown = `${reference.replace('| Injected internal error, function |', '| A new one | 1 | 1 | 1 | – | – |\n$&')}\n| ${number} | q | d | L |\n`;
    const missing = required(grown).filter((item) => !covered.has(item) && !(item in EXEMPTIONS));
    expect(missing).toEqual(['ref §8.3 row 18', number]);
    const without = new Set(titles.filter(({ text }) => !text.includes('O-13')).flatMap(({ text }) => citations(text)));
    expect(wanted.filter((item) => !without.has(item) && !(item in EXEMPTIONS))).toContain('O-13');
  });
});
