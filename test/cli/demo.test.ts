import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { sdxi, sdxiJson } from './run.js';

interface DemoJson {
  ok: boolean;
  function: { name: string; state: string };
  steps: { name: string; ok: boolean; bytes?: number; seconds?: number; ratioToCpu?: number; details?: Record<string, unknown> }[];
}

/** Smaller than the node binary, so that the test takes less. */
const FILE = fileURLToPath(new URL('../../docs/sdxi-1.0.md', import.meta.url));
const STEPS = ['function', 'dmatest', 'file', 'fill', 'pages', 'error', 'event-loop'];
const LIMIT_MS = 60_000;

describe('sdxi demo', () => {
  it('--json: one object with the function and every step, all verified, exit 0', { timeout: LIMIT_MS }, async () => {
    const { code, json } = await sdxiJson<DemoJson>(['demo', '--file', FILE], { limitMs: LIMIT_MS });
    expect(code).toBe(0);
    expect(json).toMatchObject({ ok: true, function: { name: 'sdxi0', state: 'ACTIVE' } });
    expect(json.steps.map(({ name, ok }) => [name, ok])).toEqual(STEPS.map((name) => [name, true]));
    const [, dmatest, file, fill, pages, error, loop] = json.steps;
    expect(dmatest.details).toMatchObject({ tests: 10_000, failures: 0 });
    expect([fill.bytes, pages.bytes, loop.bytes]).toEqual([256 * 2 ** 20, 64 * 2 ** 20, 2 ** 30]);
    expect(pages.details).toMatchObject({ pages: 16_384, descriptors: 16_384 });
    expect(error.details).toMatchObject({
      error: { code: 'ERR_SDXI_TRANSLATION', hint: expect.any(String) },
      state: 'RUN',
      copiedAfterwards: true,
    });
    for (const step of [dmatest, file, fill, pages, loop]) expect(step.ratioToCpu).toBeGreaterThan(0);
  });

  it('one bit flipped in the data: the table says NO, exit 1; --only makes the steps that it names', { timeout: LIMIT_MS }, async () => {
    const args = ['demo', '--file', FILE, '--corrupt', 'data', '--only', 'file,dmatest'];
    const { code, stdout } = await sdxi(args, { limitMs: LIMIT_MS });
    expect(code).toBe(1);
    expect(stdout).toMatch(/│ file .*│ +NO │/);
    expect(stdout).toMatch(/│ dmatest .*│ +yes │/);
    expect(stdout).toContain('FAILED: file');
    expect(stdout).not.toMatch(/pages|event-loop/);
  });

  it('--group: the three-party copy, a remote interrupt and each refused remote access (ref §7.1, §7.2)', {
    timeout: LIMIT_MS,
  }, async () => {
    const { code, json } = await sdxiJson<DemoJson>(['demo', '--group'], { limitMs: LIMIT_MS });
    expect(json.steps.map(({ name, ok }) => [name, ok])).toEqual(
      ['group', 'three-party', 'interrupt', 'refused'].map((name) => [name, true]),
    );
    const { refusals } = json.steps[3].details as { refusals: { name: string; found: string; untouched: boolean }[] };
    expect(refusals.length).toBeGreaterThanOrEqual(15);
    expect(new Set(refusals.map(({ name }) => name)).size).toBe(refusals.length);
    expect(refusals.every(({ untouched }) => untouched)).toBe(true);
    expect(code).toBe(0);
  });

  it('--group with steps of the other demo, or a function that is not embedded, is refused', async () => {
    for (const args of [
      ['--group', '--only', 'fill'],
      ['--group', '--function', 'vfio-user:/x'],
    ]) {
      const { code, stderr } = await sdxi(['demo', ...args]);
      expect(code).toBe(2);
      expect(stderr).toContain('hint:');
    }
  });
});
