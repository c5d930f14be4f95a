import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ConsoleReader } from '../../src/vm/console.js';

/** What begins a message of the guest. */
const MARK = '\u001e';

describe('the guest\u2019s end of the command line', () => {
  it('output and status are the same wherever the stream is cut', async () => {
    const stream = Buffer.from('\x1eready\nfirst é line\nno end\x1em1 7\n');
    for (let cut = 0; cut <= stream.length; cut++) {
      let ready = 0;
      const reader = new ConsoleReader(() => ready++);
      const done = reader.expect('m1');
      reader.take(stream.subarray(0, cut));
      reader.take(stream.subarray(cut));
      expect(await done).toEqual({ code: 7, output: 'first é line\nno end' });
      expect(ready).toBe(1);
    }
  });

  it('any bytes that a program prints arrive whole, the mark among them', async () => {
    const bytes = fc.array(fc.oneof(fc.constantFrom(0x1e, 0x0a, 0x20, 0x6d, 0x31), fc.nat(127)), { maxLength: 60 });
    await fc.assert(
      fc.asyncProperty(bytes, fc.nat(60), async (printed, cut) => {
        const output = Buffer.from(printed).toString();
        fc.pre(!output.includes(`${MARK}ready`) && !output.includes(`${MARK}m9`));
        const reader = new ConsoleReader(() => {});
        const done = reader.expect('m9');
        const stream = Buffer.from(`${output}\x1em9 0\n`);
        reader.take(stream.subarray(0, cut));
        reader.take(stream.subarray(cut));
        expect(await done).toEqual({ code: 0, output });
      }),
    );
  });

  it('output comes as it is printed', () => {
    const seen: string[] = [];
    const reader = new ConsoleReader(() => {});
    void reader.expect('m1', (bytes) => seen.push(bytes.toString()));
    reader.take(Buffer.from('one\n'));
    expect(seen).toEqual(['one\n']);
    expect(reader.output).toBe('one\n');
  });

  it('a mark with no message behind it holds nothing back', () => {
    const seen: Buffer[] = [];
    const reader = new ConsoleReader(() => {});
    void reader.expect('m1', (bytes) => seen.push(Buffer.from(bytes)));
    reader.take(Buffer.from(`\x1e${'x'.repeat(50)}`));
    reader.take(Buffer.from('x'.repeat(50)));
    expect(Buffer.concat(seen).toString()).toBe(`\x1e${'x'.repeat(100)}`);
  });

  it('what a command prints that nobody waits for any more is not the next one\u2019s', async () => {
    const reader = new ConsoleReader(() => {});
    void reader.expect('m1');
    reader.forget();
    const done = reader.expect('m2');
    reader.take(Buffer.from('late\n\x1em1 0\nmine\n\x1em2 3\n'));
    expect(await done).toEqual({ code: 3, output: 'mine\n' });
  });
});
