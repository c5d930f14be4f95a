import { describe, expect, it } from 'vitest';
import {
  CHECKS,
  type CheckResult,
  type ConformanceReport,
  junitReport,
  runConformance,
  selectChecks,
  tapReport,
} from '../../src/conform/index.js';
import { ArgumentError } from '../../src/errors.js';

const base = { section: '2 Registers', title: 'a "title" with <marks> & more', basis: 'ref §2, S-1' } as const;
const result = (id: string, kind: CheckResult['kind'], status: CheckResult['status'], reason?: string): CheckResult => ({
  id,
  ...base,
  kind,
  status,
  reason,
});

const REPORT: ConformanceReport = {
  target: 'vfio:0000:c4:00.1',
  ok: false,
  passed: 1,
  failed: 1,
  skipped: 1,
  deviations: 1,
  seconds: 1.5,
  checks: [
    result('a.passed', 'requirement', 'passed'),
    result('a.failed', 'requirement', 'failed', 'is 0x1, not 0x2\n# "quoted" \u0001 & <b>'),
    { ...result('b.deviates', 'decision', 'failed', 'decided # otherwise'), section: '4 Structures' },
    { ...result('b.skipped', 'decision', 'skipped', 'not offered'), section: '4 Structures' },
  ],
};

/** Elements of well-formed XML, in order; throws for anything that does not nest or is not escaped. */
function elements(xml: string): { name: string; attributes: Record<string, string> }[] {
  const found: { name: string; attributes: Record<string, string> }[] = [];
  const open: string[] = [];
  const text = xml.replace(/^<\?xml version="1\.0" encoding="UTF-8"\?>\n/, '');
  if (text === xml) throw new Error('no XML declaration');
  const rest = text.replace(/<(\/?)([\w:-]+)((?: [\w:-]+="[^"<]*")*)(\/?)>/g, (_all, close, name, attributes, empty) => {
    if (close) {
      if (open.pop() !== name) throw new Error(`</${name}> closes nothing`);
      return '';
    }
    if (/&(?!(?:amp|lt|gt|quot);)/.test(attributes)) throw new Error(`not escaped: ${attributes}`);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what XML 1.0 rules out
    if (/[\u0000-\u0008\u000b\u000c\u000e-\u001f]/.test(attributes)) throw new Error('a control character');
    found.push({
      name,
      attributes: Object.fromEntries([...attributes.matchAll(/ ([\w:-]+)="([^"]*)"/g)].map(([, key, value]) => [key, value])),
    });
    if (!empty) open.push(name);
    return '';
  });
  if (open.length > 0 || rest.trim() !== '') throw new Error(`left over: ${open} ${rest.trim().slice(0, 80)}`);
  return found;
}

describe('JUnit', () => {
  it('is well-formed, one suite for each section, counts that agree; deviations are skipped', () => {
    const all = elements(junitReport(REPORT));
    const named = (name: string) => all.filter((element) => element.name === name).map(({ attributes }) => attributes);
    expect(named('testsuites')).toEqual([
      { name: 'sdxi conform vfio:0000:c4:00.1', tests: '4', failures: '1', errors: '0', skipped: '2', time: '1.5' },
    ]);
    expect(named('testsuite')).toEqual([
      expect.objectContaining({ name: '2 Registers', tests: '2', failures: '1', skipped: '0' }),
      expect.objectContaining({ name: '4 Structures', tests: '2', failures: '0', skipped: '2' }),
    ]);
    expect(named('testcase')).toHaveLength(4);
    expect(named('failure')).toEqual([{ message: 'is 0x1, not 0x2?# &quot;quoted&quot; ? &amp; &lt;b&gt;' }]);
    expect(named('skipped')).toEqual([{ message: 'decided otherwise: decided # otherwise' }, { message: 'not offered' }]);
  });

  it('of a real run has a case for each check', async () => {
    const report = await runConformance('embedded:?inline=1&ignoreChain=on', { only: ['8 Errors'], timeoutMs: 50 });
    const all = elements(junitReport(report));
    expect(all.filter(({ name }) => name === 'testcase')).toHaveLength(report.checks.length);
    expect(all.filter(({ name }) => name === 'failure')).toHaveLength(1);
  });
});

describe('TAP', () => {
  it('has a version, a plan, a line for each check; deviations are TODO', () => {
    expect(tapReport(REPORT).split('\n')).toEqual([
      'TAP version 14',
      '1..4',
      'ok 1 - a.passed: a "title" with <marks> & more',
      'not ok 2 - a.failed: a "title" with <marks> & more',
      '  ---',
      '  message: "is 0x1, not 0x2\\n# \\"quoted\\" \\u0001 & <b>"',
      '  basis: "ref §2, S-1"',
      '  ...',
      'not ok 3 - b.deviates: a "title" with <marks> & more # TODO decided \\# otherwise',
      'ok 4 - b.skipped: a "title" with <marks> & more # SKIP not offered',
      '',
    ]);
  });
});

describe('selecting checks', () => {
  const ids = (...only: string[]) => selectChecks(CHECKS, only).map(({ id }) => id);

  it('by a part of an id or section, by wildcards, in any case, in the order of the reference', () => {
    expect(ids('version.major')).toEqual(['version.major']);
    expect(ids('CSB.1')).toEqual(['csb.1', 'csb.100']);
    expect(ids('csb.?')).toEqual(['csb.1']);
    expect(ids('scenario.*')).toHaveLength(19);
    expect(ids('5.4')).toEqual(CHECKS.filter(({ section }) => section.startsWith('5.4')).map(({ id }) => id));
    expect(ids('scenario.2', 'version.major')).toEqual(['version.major', 'scenario.2']);
    expect(selectChecks(CHECKS, undefined)).toBe(CHECKS);
  });

  it.each(['no such check', '', ' ', 'csb.+', '*.no-such-check'])('"%s" matches nothing: an error', (pattern) => {
    expect(() => ids('version.major', pattern)).toThrow(ArgumentError);
  });

  it('an impossible timeout is an error', async () => {
    for (const timeoutMs of [0, -1, Number.NaN, 2 ** 31])
      await expect(runConformance('embedded:', { timeoutMs })).rejects.toBeInstanceOf(ArgumentError);
  });
});
