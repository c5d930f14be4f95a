import { describe, expect, it } from 'vitest';
import { AbortError, BusLostError, ContextError, TimeoutError } from '../../src/errors.js';
import { cpuTransferSeconds, type DmatestOptions, dmatest, failureLines, summaryLine } from '../../src/offload/dmatest.js';
import type { Lane, LaneBuffer } from '../../src/offload/lane.js';

/** A lane without a function: the test's own copy, or whatever `copy` does instead. */
class FakeLane implements Lane {
  readonly name: string;
  readonly memory = Buffer.alloc(2 ** 20);
  readonly transfers: [source: number, destination: number, length: number][] = [];
  recoveries = 0;
  private used = 0;
  private readonly act: (lane: FakeLane, source: number, destination: number, length: number) => void;

  constructor(name: string, act: (lane: FakeLane, source: number, destination: number, length: number) => void = FakeLane.move) {
    this.name = name;
    this.act = act;
  }

  static move(lane: FakeLane, source: number, destination: number, length: number): void {
    lane.memory.copyWithin(destination, source, source + length);
  }

  allocate(byteLength: number): LaneBuffer {
    const iova = this.used;
    this.used += byteLength;
    return { bytes: this.memory.subarray(iova, iova + byteLength), iova };
  }

  async copy(source: number, destination: number, length: number): Promise<void> {
    this.transfers.push([source, destination, length]);
    this.act(this, source, destination, length);
  }

  async recover(): Promise<void> {
    this.recoveries++;
  }

  async close(): Promise<void> {}
}

const OPTIONS: DmatestOptions = { iterations: 50, bufferBytes: 4096, alignment: 0, seed: 11, timeoutMs: 1000, verify: true };

describe('dmatest', () => {
  it('each lane makes its iterations; sizes and places vary, and stay inside the test buffer', async () => {
    const lanes = [new FakeLane('sdxi0/cxt1'), new FakeLane('sdxi0/cxt2')];
    const report = await dmatest(lanes, OPTIONS);
    expect(report).toMatchObject({ seed: 11, tests: 100, failures: 0, details: [] });
    for (const { transfers } of lanes) {
      expect(new Set(transfers.map(([, , length]) => length)).size).toBeGreaterThan(40);
      for (const [source, destination, length] of transfers) {
        // 256 bytes of guard, the buffer, 256 bytes of guard; the destination behind it.
        expect(source >= 256 && source + length <= 256 + 4096).toBe(true);
        expect(destination >= 4608 + 256 && destination + length <= 4608 + 256 + 4096).toBe(true);
      }
    }
    expect(lanes[0].transfers).not.toEqual(lanes[1].transfers);
  });

  it('the same seed makes the same transfers, whatever the other lanes do; another seed others', async () => {
    const alone = new FakeLane('sdxi0/cxt1');
    await dmatest([alone], OPTIONS);
    const accompanied = new FakeLane('sdxi0/cxt1');
    await dmatest([accompanied, new FakeLane('sdxi0/cxt2')], OPTIONS);
    expect(accompanied.transfers).toEqual(alone.transfers);
    const other = new FakeLane('sdxi0/cxt1');
    await dmatest([other], { ...OPTIONS, seed: 12 });
    expect(other.transfers).not.toEqual(alone.transfers);
  });

  it('alignment is an exponent: offsets and lengths are multiples of 2^n', async () => {
    const lane = new FakeLane('sdxi0/cxt1');
    await dmatest([lane], { ...OPTIONS, alignment: 6 });
    for (const numbers of lane.transfers) for (const number of numbers) expect(number % 64).toBe(0);
  });

  it.each([
    ['one byte too many', (lane: FakeLane, s: number, d: number, n: number) => FakeLane.move(lane, s, d, n + 1)],
    ['one byte too few', (lane: FakeLane, s: number, d: number, n: number) => FakeLane.move(lane, s, d, n - 1)],
    ['one byte too early', (lane: FakeLane, s: number, d: number, n: number) => FakeLane.move(lane, s, d - 1, n)],
    ['from one byte too late', (lane: FakeLane, s: number, d: number, n: number) => FakeLane.move(lane, s + 1, d, n)],
    ['nothing', () => {}],
    ['back into the source', (lane: FakeLane, s: number, d: number, n: number) => FakeLane.move(lane, d, s, n)],
  ])('a function that moves %s fails every test', async (_what, act) => {
    const report = await dmatest([new FakeLane('sdxi0/cxt1', act)], OPTIONS);
    expect(report.failures).toBe(50);
    // All are counted, the first are described.
    expect(report.details).toHaveLength(32);
    expect(report.details[0]).toMatchObject({ thread: 'sdxi0cxt1-copy0', test: 1, result: 'data error' });
  });

  it('without the check a wrong transfer is no failure', async () => {
    const report = await dmatest([new FakeLane('sdxi0/cxt1', () => {})], { ...OPTIONS, verify: false });
    expect(report).toMatchObject({ tests: 50, failures: 0 });
  });

  it('an error of a transfer is a failure, the lane is recovered and goes on', async () => {
    const lane = new FakeLane('sdxi0/cxt1', (self, s, d, n) => {
      if (self.transfers.length === 10) throw new ContextError('ERR_SDXI_TRANSLATION', 'not mapped');
      FakeLane.move(self, s, d, n);
    });
    const report = await dmatest([lane], OPTIONS);
    expect(report).toMatchObject({
      tests: 50,
      failures: 1,
      details: [{ test: 10, result: 'transfer error', code: 'ERR_SDXI_TRANSLATION' }],
    });
    expect(lane.recoveries).toBe(1);
    expect(failureLines(report.details[0]).at(-1)).toBe('sdxi0cxt1-copy0: not mapped');
  });

  it('a lane that times out three times in a row is given up; the others finish', async () => {
    const stuck = new FakeLane('sdxi0/cxt1', () => {
      throw new TimeoutError('copy', 1000);
    });
    const report = await dmatest([stuck, new FakeLane('sdxi0/cxt2')], OPTIONS);
    expect(report.threads.map(({ tests, failures }) => [tests, failures])).toEqual([
      [3, 3],
      [50, 0],
    ]);
    expect(report.details.map(({ result }) => result)).toEqual(Array(3).fill('test timed out'));
  });

  it('a function that is gone ends its lane at once', async () => {
    const lane = new FakeLane('sdxi0/cxt1', () => {
      throw new BusLostError('the engine is gone');
    });
    expect(await dmatest([lane], OPTIONS)).toMatchObject({ tests: 1, failures: 1, details: [{ code: 'ERR_SDXI_BUS_LOST' }] });
    expect(lane.recoveries).toBe(0);
  });

  it('an abort ends the test', async () => {
    const controller = new AbortController();
    const lane = new FakeLane('sdxi0/cxt1', (self) => {
      if (self.transfers.length === 5) controller.abort();
    });
    await expect(dmatest([lane], { ...OPTIONS, verify: false, signal: controller.signal })).rejects.toThrow(AbortError);
    expect(lane.transfers).toHaveLength(5);
  });

  it('an alignment that fits no transfer is refused', async () => {
    await expect(dmatest([], { ...OPTIONS, alignment: 13 })).rejects.toThrow('4096-byte buffer too small for 8192-byte alignment');
  });

  it("the summary line is dmatest's, integers and two digits cut off", () => {
    const thread = { name: 'sdxi0cxt1-copy0', tests: 100, failures: 2, iops: 1234.569, bytesPerSecond: 3 * 1024 + 1023 };
    expect(summaryLine(thread)).toBe('sdxi0cxt1-copy0: summary 100 tests, 2 failures 1234.56 iops 3 KB/s (0)');
  });

  it('the CPU can make the same transfers', () => {
    expect(cpuTransferSeconds(OPTIONS, 2)).toBeGreaterThan(0);
  });
});
