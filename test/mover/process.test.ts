import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const entry = new URL('../../dist/index.js', import.meta.url).href;

/** Runs a program against the built package in a process of its own. */
function run(source: string): { status: number | null; signal: string | null; out: string; ms: number } {
  const prelude = `import { open } from '${entry}'; const MIB = 2 ** 20;\n`;
  const started = performance.now();
  const { status, signal, stdout, stderr } = spawnSync(
    process.execPath,
    ['--expose-gc', '--input-type=module', '--eval', prelude + source],
    {
      cwd: fileURLToPath(new URL('../..', import.meta.url)),
      encoding: 'utf8',
      timeout: 15_000,
    },
  );
  return { status, signal, out: `${stdout}${stderr}`.trim(), ms: performance.now() - started };
}

describe('the life of a process with a mover', () => {
  it('it ends when nothing is in flight, though the mover was not closed', () => {
    const { status, out } = run(`
      const mover = await open();
      const [from, to] = [mover.alloc(2 * MIB), mover.alloc(2 * MIB)];
      await mover.copy(from, to);
      await mover.fill(to.subarray(0, 64), 1);
      console.log('idle', to[63]);
    `);
    expect([status, out]).toEqual([0, 'idle 1']);
  });

  it('it stays alive while work is in flight, and no longer', () => {
    const { status, out } = run(`
      const mover = await open();
      const [from, to] = [mover.alloc(256 * MIB), mover.alloc(256 * MIB)];
      from[from.length - 1] = 7;
      mover.copy(from, to).then(() => console.log('done', to[to.length - 1]));
      for (let i = 0; i < 50; i++) mover.fill(from.subarray(i * 64, i * 64 + 64), 2).then(() => i === 49 && console.log('filled'));
    `);
    expect([status, out.split('\n').sort()]).toEqual([0, ['done 7', 'filled']]);
  });

  it('a mover that is lost, under garbage collection, harms nobody', () => {
    const { status, signal, out } = run(`
      let kept;
      await (async () => {
        const mover = await open();
        kept = mover.alloc(MIB);
        const user = Buffer.alloc(MIB, 3);
        mover.register(user);
        await mover.copy(user, kept);
        mover.copy(Buffer.from(kept.buffer, kept.byteOffset, MIB), user).catch(() => {});
      })();
      for (let i = 0; i < 30; i++) {
        gc();
        await new Promise((resolve) => setTimeout(resolve, 5));
        Buffer.alloc(8 * MIB, i);
      }
      console.log(kept[MIB - 1]);
    `);
    expect([status, signal, out]).toEqual([0, null, '3']);
  });

  it('memory from alloc stays readable after close, under garbage collection', () => {
    const { status, signal, out } = run(`
      const mover = await open();
      const buffers = Array.from({ length: 20 }, (_, i) => mover.alloc(3 * MIB).fill(i));
      await mover.close();
      for (let i = 0; i < 10; i++) { gc(); await new Promise((resolve) => setTimeout(resolve, 2)); }
      console.log(buffers.every((buffer, i) => buffer.equals(Buffer.alloc(3 * MIB, i))));
    `);
    expect([status, signal, out]).toEqual([0, null, 'true']);
  });

  it('process.exit in the middle of work ends it at once', () => {
    const { status, signal, ms } = run(`
      const mover = await open();
      const buffer = mover.alloc(1024 * MIB);
      mover.fill(buffer, 1).catch(() => {});
      setTimeout(() => process.exit(5), 20);
    `);
    expect([status, signal]).toEqual([5, null]);
    expect(ms).toBeLessThan(10_000);
  });

  it('an error that nobody handles ends the process as any other would', () => {
    const { status, out } = run(`
      const mover = await open();
      const buffer = Buffer.alloc(64);
      mover.register(buffer, { access: 'read' });
      mover.fill(buffer, 1);
    `);
    expect(status).toBe(1);
    expect(out).toContain('ERR_SDXI_DATA_ACCESS');
    expect(out).toContain('hint');
  });
});
