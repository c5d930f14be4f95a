import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const dist = (file: string) => new URL(`../../dist/${file}`, import.meta.url).href;

/** Runs a module with `gc()` in a process of its own, because a mistake here ends the process; it prints JSON. */
function run(source: string): unknown {
  const prelude = `
    import { readFileSync, readdirSync, readlinkSync } from 'node:fs';
    import { setTimeout as pause } from 'node:timers/promises';
    import { Arena, bytesOf } from '${dist('memory/arena.js')}';
    import { allocateRegion, pinRegion } from '${dist('memory/region.js')}';
    const mappings = () => readFileSync('/proc/self/maps', 'utf8').split('\\n').filter((line) => line.includes('memfd:sdxi')).length;
    const files = () => readdirSync('/proc/self/fd').filter((fd) => {
      try { return readlinkSync('/proc/self/fd/' + fd).includes('memfd:sdxi'); } catch { return false; }
    }).length;
    /** Collects until the condition holds: finalizers run in turns of the event loop. */
    const collect = async (done) => { for (let i = 0; i < 100 && !done(); i++) { gc(); await pause(2); } };
  `;
  const output = execFileSync(process.execPath, ['--expose-gc', '--input-type=module', '--eval', prelude + source], {
    cwd: fileURLToPath(new URL('../..', import.meta.url)),
    encoding: 'utf8',
    timeout: 15_000,
  });
  return JSON.parse(output);
}

describe('the life of DMA memory', () => {
  it('ends when the last view is gone: mapping and file are given back', () => {
    const result = run(`
      let view = (() => { const region = allocateRegion(1 << 20); region.bytes[7] = 42; return Buffer.from(region.bytes.buffer, 4, 8); })();
      const before = [mappings(), files()];
      await collect(() => mappings() === 0);
      const held = [mappings(), view[3]];
      view = undefined;
      await collect(() => mappings() === 0 && files() === 0);
      console.log(JSON.stringify({ before, held, after: [mappings(), files()] }));
    `);
    expect(result).toEqual({ before: [1, 1], held: [1, 42], after: [0, 0] });
  });

  it('does not end with close(): a buffer that is still held stays readable through any number of collections', () => {
    const result = run(`
      const arena = new Arena({ chunkBytes: 1 << 16 });
      const kept = bytesOf(arena.allocate(100)).fill(7);
      for (let i = 0; i < 20; i++) arena.allocate(1 << 16);
      const chunks = arena.regions.length;
      arena.close();
      await collect(() => mappings() === 1);
      const intact = kept.every((byte) => byte === 7);
      kept.fill(8);
      console.log(JSON.stringify({ chunks, left: mappings(), intact, last: kept[99] }));
    `);
    expect(result).toEqual({ chunks: 21, left: 1, intact: true, last: 8 });
  });

  it('pinned memory lives as long as its region, though nobody else holds it', () => {
    const result = run(`
      const regions = [];
      for (let i = 0; i < 50; i++) regions.push(pinRegion(new Uint8Array(100_000).fill(i + 1).subarray(1)));
      // The windows alone keep it, too: that is all that a mapping holds.
      const windows = Array.from({ length: 50 }, (_, i) => { const { window, offset } = pinRegion(new Uint8Array(100_000).fill(i + 1)); return { u8: window.u8, offset }; });
      for (let i = 0; i < 20; i++) { gc(); new Array(100).fill(0).map(() => new Uint8Array(100_000).fill(0xff)); await pause(1); }
      const whole = regions.every((region, i) => region.bytes.every((byte) => byte === i + 1) && region.window.u8[region.offset + 99_998] === i + 1);
      const seen = windows.every(({ u8, offset }, i) => u8.subarray(offset, offset + 100_000).every((byte) => byte === i + 1));
      console.log(JSON.stringify({ whole, seen }));
    `);
    expect(result).toEqual({ whole: true, seen: true });
  });
});
