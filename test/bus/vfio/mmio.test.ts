import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import type { VfioDevice } from '../../../src/bus/vfio/device.js';
import type { Host } from '../../../src/bus/vfio/host.js';
import { Bar } from '../../../src/bus/vfio/mmio.js';
import type { Mmio } from '../../../src/bus/vfio/uri.js';
import { allocateRegion } from '../../../src/memory/region.js';
import { viewMemory } from '../../../src/native/libc.js';

const SIZE = 0x80000;

/** A device whose region is ordinary memory, and which writes down what comes by system calls. */
function device({ areas = [{ offset: 0, size: SIZE }], mmio = 'auto' as Mmio, refuse = 0 } = {}) {
  const region = allocateRegion(SIZE);
  const calls: string[] = [];
  const unmapped: number[] = [];
  const host = {
    view: viewMemory,
    unmap: (address: number, byteLength: number) => unmapped.push(address - region.address, byteLength),
  } as unknown as Host;
  const model = {
    map: (position: number) => (refuse === 0 ? region.address + position - 2 ** 40 : -refuse),
    read64: (position: number) => {
      calls.push(`read ${position - 2 ** 40}`);
      return 7n;
    },
    write64: (position: number, value: bigint) => calls.push(`write ${position - 2 ** 40} ${value}`),
  } as unknown as VfioDevice;
  const bar = () => new Bar(host, model, 'BAR 0', { flags: 7, size: SIZE, offset: 2 ** 40, areas }, mmio);
  return { bar, region, calls, unmapped, data: new BigUint64Array(region.bytes.buffer, 0, SIZE / 8) };
}

describe('a BAR', () => {
  it('that is mapped takes loads and stores', () => {
    const { bar: open, data, calls, unmapped } = device();
    const bar = open();
    bar.write(0x20028, 0xfedc_ba98_7654_3210n);
    expect(data[0x20028 / 8]).toBe(0xfedc_ba98_7654_3210n);
    data[1] = 5n;
    expect([bar.read(8), bar.how, calls]).toEqual([5n, 'mapped', []]);
    bar.close();
    expect(unmapped).toEqual([0, SIZE]);
  });

  it('S-100: 8 bytes that are not aligned go by a system call, never by an instruction that might split them', () => {
    const { bar: open, calls } = device();
    const bar = open();
    bar.write(4, 1n);
    expect([bar.read(12), calls]).toEqual([7n, ['write 4 1', 'read 12']]);
  });

  it('with holes is read and written by system calls there, and says so', () => {
    const areas = [
      { offset: 0, size: 0x1000 },
      { offset: 0x3000, size: 0x1000 },
    ];
    const { bar: open, data, calls, unmapped } = device({ areas });
    const bar = open();
    for (const offset of [0xff8, 0x1000, 0x2ff8, 0x3000, 0x3ff8, 0x4000]) bar.write(offset, 1n);
    expect(calls).toEqual(['write 4096 1', 'write 12280 1', 'write 16384 1']);
    expect([0xff8, 0x1000, 0x2ff8, 0x3000, 0x3ff8, 0x4000].map((offset) => data[offset / 8])).toEqual([1n, 0n, 0n, 1n, 1n, 0n]);
    expect(bar.how).toBe('mapped in part, else system calls (the kernel offers a part)');
    bar.close();
    expect(unmapped).toEqual([0, 0x1000, 0x3000, 0x1000]);
  });

  it.each([
    ['that offers no mapping', { areas: [] }, 'system calls (the kernel offers no mapping)'],
    ['whose mapping fails', { refuse: 22 }, 'system calls (mmap: EINVAL)'],
    ['with mmio=call', { mmio: 'call' as Mmio }, 'system calls (asked for)'],
  ])('%s is reached by system calls, and says why', (_, options, how) => {
    const { bar: open, calls } = device(options);
    const bar = open();
    expect([bar.how, bar.read(0), calls]).toEqual([how, 7n, ['read 0']]);
  });

  it('with mmio=map there are no system calls instead', () => {
    const { bar: open, unmapped } = device({ mmio: 'map', areas: [{ offset: 0, size: 0x1000 }] });
    expect(open).toThrow(expect.objectContaining({ code: 'ERR_SDXI_UNSUPPORTED', hint: expect.stringContaining('mmio=map') }));
    expect(unmapped).toEqual([0, 0x1000]);
  });

  const values = [0n, 0xffff_ffff_ffff_ffffn];
  it.each(['store', 'load'])('ref §2.8: 8 bytes move at once, while another thread does %s', async (job) => {
    const { bar: open, region } = device();
    const bar = open();
    const worker = new Worker(new URL('./tear.mjs', import.meta.url), { workerData: { address: region.address, values, job } });
    await once(worker, 'message');
    let torn = 0;
    const start = performance.now();
    // Through all tiers of the compiler: interpreted at first, optimized soon.
    for (let i = 0; i < 100_000 || (i < 2e7 && performance.now() < start + 200); i++) {
      if (job === 'load') bar.write(8, values[i & 1] as bigint);
      else if (!values.includes(bar.read(8))) torn++;
    }
    const end = once(worker, 'message');
    Atomics.store(new Int32Array(region.bytes.buffer, 64, 1), 0, 1);
    const [report] = await end;
    await worker.terminate();
    expect(report.seen).toBeGreaterThan(0);
    expect(torn + report.torn).toBe(0);
  });
});
