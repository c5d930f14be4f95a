import { describe, expect, it } from 'vitest';
import { type FailureJson, here, hereJson, interrupt, sdxiJson } from './run.js';

interface TestJson {
  ok: boolean;
  tests: number;
  failures: number;
  iops: number;
  bytesPerSecond: number;
  seed: number;
  threads: { name: string; tests: number; failures: number }[];
  details: { thread: string; test: number; result: string; errors: number }[];
}

/** dmatest's own line, as scripts that read the kernel log look for it. */
const SUMMARY = /^(\S+): summary (\d+) tests, (\d+) failures \d+\.\d\d iops \d+ KB\/s \(0\)$/;

describe('sdxi test', () => {
  it('tests are iterations times threads, all of them good', async () => {
    const { code, json, stderr } = await sdxiJson<TestJson>(['test', '--iterations', '200', '--threads', '3', '--seed', '77']);
    expect([code, stderr]).toEqual([0, '']);
    expect(json).toMatchObject({ ok: true, tests: 600, failures: 0, seed: 77, details: [] });
    expect(json.iops).toBeGreaterThan(0);
    expect(json.bytesPerSecond).toBeGreaterThan(0);
    expect(json.threads.map(({ name, tests }) => [name, tests])).toEqual([
      ['sdxi0cxt1-copy0', 200],
      ['sdxi0cxt2-copy0', 200],
      ['sdxi0cxt3-copy0', 200],
    ]);
  });

  it("prints dmatest's summary line for each thread, and for all", async () => {
    const { code, stdout } = await here(['test', '-i', '50', '-t', '2']);
    const lines = stdout.trim().split('\n');
    expect(code).toBe(0);
    expect(lines.slice(0, 3).map((line) => SUMMARY.exec(line)?.slice(1))).toEqual([
      ['sdxi0cxt1-copy0', '50', '0'],
      ['sdxi0cxt2-copy0', '50', '0'],
      ['sdxi0', '100', '0'],
    ]);
    expect(lines[3]).toMatch(/^seed \d+$/);
  });

  it.each(['guard', 'data'])('one bit flipped in the %s fails one test, exit 1; the same seed fails the same way', async (what) => {
    const run = () => hereJson<TestJson>(['test', '-i', '40', '-t', '2', '--seed', '5', '--corrupt', what]);
    const first = await run();
    expect(first.code).toBe(1);
    expect(first.json).toMatchObject({ ok: false, tests: 80, failures: 1 });
    expect(first.json.details).toMatchObject([{ thread: 'sdxi0cxt1-copy0', test: 20, result: 'data error', errors: 1 }]);
    const second = await run();
    expect(second.json.details).toEqual(first.json.details);
  });

  it("a failure is told in dmatest's words", async () => {
    const { code, stdout } = await here(['test', '-i', '40', '--seed', '5', '--corrupt', 'data']);
    expect(code).toBe(1);
    expect(stdout).toMatch(/^sdxi0cxt1-copy0: dstbuf\[0x[0-9a-f]+\] .*! Expected [0-9a-f]{2}, got [0-9a-f]{2}$/m);
    expect(stdout).toMatch(
      /^sdxi0cxt1-copy0: result #20: 'data error' with src_off=0x[0-9a-f]+ dst_off=0x[0-9a-f]+ len=0x[0-9a-f]+ \(1\)$/m,
    );
    expect(stdout).toMatch(/^sdxi0cxt1-copy0: summary 40 tests, 1 failures /m);
  });

  it.each([
    ['an alignment and an odd buffer', ['--alignment', '6', '--buf-size', '10001']],
    ['a buffer of one byte', ['--buf-size', '1']],
    ['a large buffer', ['--buf-size', '4m', '-i', '5']],
    ['polled', ['--polled']],
    ['without the check', ['--noverify']],
    ['a function on this thread', ['embedded:?inline=1']],
    ['a function with the smallest limits', ['embedded:?maxBuffer=0&maxContext=1&maxRing=0']],
  ])('%s: no failure', async (_what, args) => {
    const { code, json } = await hereJson<TestJson>(['test', '-i', '50', ...args]);
    expect(code).toBe(0);
    expect(json.failures).toBe(0);
  });

  it('--functions 2: threads on two functions, both do their share', async () => {
    const { code, json } = await hereJson<TestJson>(['test', '--functions', '2', '-t', '4', '-i', '50']);
    expect(code).toBe(0);
    expect(json.threads.map(({ name, tests }) => [name, tests])).toEqual([
      ['sdxi0cxt1-copy0', 50],
      ['sdxi1cxt1-copy0', 50],
      ['sdxi0cxt2-copy0', 50],
      ['sdxi1cxt2-copy0', 50],
    ]);
  });

  it('more threads than the function has contexts: a failure that says so', async () => {
    const { code, json } = await hereJson<FailureJson>(['test', 'embedded:?maxContext=2', '-t', '3']);
    expect([code, json.error.code]).toEqual([1, 'ERR_SDXI_RESOURCE']);
    expect(json.error.hint).toBeTruthy();
  });

  it('SIGINT ends it cleanly with exit 130', async () => {
    const { code, signal, json } = await sdxiJson<FailureJson>(['test', '-t', '2', '-i', '1000000000'], {
      onStart: interrupt,
    });
    expect([code, signal]).toEqual([130, null]);
    expect(json.error.code).toBe('ERR_SDXI_ABORTED');
  });
});
