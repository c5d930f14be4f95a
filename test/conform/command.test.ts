import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CHECKS, type ConformanceReport } from '../../src/conform/index.js';
import { type FailureJson, here, hereJson, sdxi } from '../cli/run.js';

const INLINE = 'embedded:?inline=1';

describe('sdxi conform', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'sdxi-conform-'));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it('as a user types it: a table by section with totals, exit 0', async () => {
    const { code, stdout, stderr } = await sdxi(['conform']);
    expect([code, stderr]).toEqual([0, '']);
    for (const section of new Set(CHECKS.map(({ section: name }) => name))) expect(stdout).toContain(`│ ${section} `);
    expect(stdout).toMatch(new RegExp(`│ all +│ +${CHECKS.length} │`));
    expect(stdout).toMatch(/embedded:: \d+ passed, 0 failed, 0 deviate/);
  });

  it('--json: target, totals, and each check with its status and reason', async () => {
    const { code, json } = await hereJson<ConformanceReport>(['conform', INLINE, '--only', '4.9']);
    expect(code).toBe(0);
    expect(json).toMatchObject({ target: INLINE, ok: true, failed: 0, deviations: 0 });
    expect(json.passed + json.skipped).toBe(json.checks.length);
    for (const check of json.checks) {
      expect(check).toEqual({
        id: expect.any(String),
        section: '4.9 Completion blocks',
        title: expect.any(String),
        basis: expect.any(String),
        kind: expect.stringMatching(/^(requirement|decision)$/),
        status: expect.stringMatching(/^(passed|skipped)$/),
        ...(check.status === 'passed' ? {} : { reason: expect.any(String) }),
      });
    }
  });

  it('a failure: exit 1, the check, its basis and its reason', async () => {
    const { code, stdout } = await here(['conform', `${INLINE}&ignoreChain=on`, '--only', 'dsc.ch', '--timeout', '50']);
    expect(code).toBe(1);
    expect(stdout).toMatch(/✗ dsc\.ch {2}.*\(S-16\)/);
    expect(stdout).toContain('ignoreChain');
  });

  it('--verbose names what passed', async () => {
    expect((await here(['conform', INLINE, '--only', 'csb.1', '-v'])).stdout).toContain('✓ csb.1');
  });

  it('--list runs nothing', async () => {
    const { code, stdout } = await here(['conform', 'vfio:0000:c4:00.1', '--list']);
    expect(code).toBe(0);
    for (const { id } of CHECKS) expect(stdout).toContain(`  ${id}  `);
    const { json } = await hereJson<Record<string, unknown>[]>(['conform', '--list', '--only', 'ring.vl-cleared']);
    expect(json).toEqual([expect.objectContaining({ id: 'ring.vl-cleared', options: ['clearValid'], needs: [] })]);
  });

  it('--junit writes the file beside the report', async () => {
    const file = join(folder, 'report.xml');
    const { code, stdout } = await here(['conform', INLINE, '--only', 'csb.*', '--junit', file]);
    expect(code).toBe(0);
    expect(stdout).toContain('4.9 Completion blocks');
    expect(readFileSync(file, 'utf8')).toMatch(/^<\?xml[\s\S]*<testsuite name="4\.9 Completion blocks"[\s\S]*<\/testsuites>\n$/);
  });

  it('--tap prints TAP and nothing else', async () => {
    const { stdout } = await here(['conform', INLINE, '--only', 'csb.1', '--tap']);
    expect(stdout).toMatch(/^TAP version 14\n1\.\.2\nok 1 - csb\.1: .*\nok 2 - csb\.100: .*\n$/);
  });

  it.each([
    ['a pattern that matches nothing', ['--only', 'ring.vl-cleared,nonsense'], 'nonsense', '--list'],
    ['a file that cannot be written', ['--junit', '/nonexistent/report.xml'], '/nonexistent/report.xml', 'folder'],
    ['--tap and --json', ['--tap'], '--tap and --json', 'one of the two'],
    ['a timeout of none', ['--timeout', '0'], "argument '0' is invalid", 'from 1 to'],
    ['a URI of no bus', ['nonsense'], 'nonsense', 'embedded'],
  ])('%s: exit 2, cause and hint', async (_what, args, message, hint) => {
    const { code, json } = await hereJson<FailureJson>(['conform', ...args]);
    expect(code).toBe(2);
    expect(`${json.error.message} ${json.error.hint}`).toContain(message);
    expect(`${json.error.message} ${json.error.hint}`).toContain(hint);
  });
});
