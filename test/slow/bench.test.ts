import { describe, expect, it } from 'vitest';
import { hereJson, sdxi } from '../cli/run.js';

interface BenchJson {
  machine: Record<string, unknown>;
  rows: Record<string, unknown>[];
}

const LIMIT_MS = 60_000;
const NUMBER = expect.any(Number);

describe('sdxi bench', () => {
  it('JSON: the machine, and a row for each op, size, depth, context count and span', { timeout: LIMIT_MS }, async () => {
    const { code, json } = await hereJson<BenchJson>([
      'bench',
      '--sizes',
      '64,8k',
      '--depth',
      '1,32',
      '--contexts',
      '1,2',
      '--span',
      '64k',
      '--functions',
      '2',
    ]);
    expect(code).toBe(0);
    expect(json).toMatchObject({
      machine: { cpu: expect.any(String), cores: NUMBER, node: process.version },
      roundTrip: { medianNs: NUMBER, p99Ns: NUMBER, samples: NUMBER },
      registerRead: { medianNs: NUMBER, p99Ns: NUMBER, samples: NUMBER },
      qos: null,
      eventLoop: { bytes: 2 ** 30, offloaded: { p99Ms: NUMBER }, inline: { p99Ms: NUMBER } },
    });
    const shapes = json.rows.map(({ op, size, depth, contexts, span, functions }) => [op, size, depth, contexts, span, functions].join());
    const perContext = (n: number) => [`copy,64,1,${n}`, `copy,8192,1,${n}`, `copy,64,32,${n}`, `copy,8192,32,${n}`, `fill,8192,32,${n}`];
    expect(shapes).toEqual([...perContext(1), ...perContext(2)].map((row) => `${row},65536,2`));
    for (const row of json.rows) expect(row).toMatchObject({ nsPerOp: NUMBER, gbPerS: NUMBER, cpuNsPerOp: NUMBER, ratioToCpu: NUMBER });
  });

  it('S-45 --qos: the latency of an urgent context, round robin and weighted, side by side', { timeout: LIMIT_MS }, async () => {
    const { code, json } = await hereJson<BenchJson>(['bench', '--sizes', '64', '--depth', '32', '--span', '64k', '--qos']);
    expect(code).toBe(0);
    const latency = { medianNs: NUMBER, p99Ns: NUMBER, samples: 800 };
    expect(json).toMatchObject({ qos: { bulkContexts: 64, bulkBytes: 65536, urgentBytes: 64, off: latency, on: latency } });
  });

  it('text for people is one table', { timeout: LIMIT_MS }, async () => {
    const { code, stdout } = await sdxi(['bench', '--sizes', '4k', '--depth', '8', '--span', '64k'], { limitMs: LIMIT_MS });
    expect(code).toBe(0);
    expect(stdout).toMatch(/│ copy │ 64 KiB │ 4 KiB │ +8 │/);
    expect(stdout).toMatch(/round trip.*median/);
  });
});
