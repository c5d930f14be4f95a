import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { bootGuest, type Guest } from '../../src/vm/index.js';

/** The function of a guest that has one, on the root bus. */
export const ADDRESS = '0000:00:01.0';
export const URI = `vfio:${ADDRESS}`;
/** Shell: where the BARs of the function are. */
export const BAR0 = 'bar0=$((0x$(setpci -d ::1201 BASE_ADDRESS_0.L) & ~15));';
export const BAR2 = 'bar2=$((0x$(setpci -d ::1201 BASE_ADDRESS_2.L) & ~15));';
/** Node in an emulated processor needs its time, more so on a busy machine. */
export const SLOW_MS = 120_000;

/** SHA-256 of `length` bytes of one value. */
export const sumOf = (byte: number, length: number): string => createHash('sha256').update(Buffer.alloc(length, byte)).digest('hex');

/** A guest with Node, its function behind an IOMMU and bound to vfio-pci, ready for our driver. */
export async function bootDriverGuest(socket: string, files: Readonly<Record<string, Uint8Array>> = {}): Promise<Guest> {
  const guest = await bootGuest({ sockets: [socket], node: true, iommu: 'intel', files });
  await must(guest, `echo vfio-pci > /sys/bus/pci/devices/${ADDRESS}/driver_override && echo ${ADDRESS} > /sys/bus/pci/drivers_probe`);
  await must(guest, 'ls /dev/vfio | grep -v vfio');
  return guest;
}

/** Runs a command that has to succeed. @returns its output */
export async function must(guest: Guest, command: string, timeoutMs = SLOW_MS): Promise<string> {
  const { code, output } = await guest.run(command, { timeoutMs });
  if (code !== 0) throw new Error(`"${command}" ended with status ${code}:\n${output}`);
  return output;
}

/** Looks again and again until a command's output fits. */
export async function until(guest: Guest, command: string, fits: (output: string) => boolean, timeoutMs = SLOW_MS): Promise<string> {
  for (const deadline = Date.now() + timeoutMs; ; ) {
    const { output } = await guest.run(command, { timeoutMs });
    if (fits(output)) return output;
    if (Date.now() > deadline) throw new Error(`"${command}" still says:\n${output}`);
    await pause(200);
  }
}

const PIPE = '/tmp/member.pipe';
const OUT = '/tmp/member.out';

/** Where a copy reads or writes: memory of the member itself, or of another function. */
export type Place = { own: true } | { sfunc: number; rkey: number; address: number };

/** The program guest/member.mjs in a guest: its function, and what it does with it. */
export class Member {
  static readonly files = { '/member.mjs': readFileSync(new URL('./guest/member.mjs', import.meta.url)) };
  readonly iova: number;
  private readonly guest: Guest;
  private lines = 1;

  private constructor(guest: Guest, iova: number) {
    this.guest = guest;
    this.iova = iova;
  }

  static async start(guest: Guest, fill: number): Promise<Member> {
    await must(guest, `rm -f ${PIPE} ${OUT}; mkfifo ${PIPE}; touch ${OUT}`);
    await guest.start(`node /member.mjs ${PIPE} ${URI} ${fill}`, OUT);
    const output = await until(guest, `head -1 ${OUT}`, (text) => text.includes('\n'));
    return new Member(guest, (JSON.parse(output) as { iova: number }).iova);
  }

  /** Sends a command, whose answer is fetched with {@link answer}. */
  async send(command: Record<string, unknown>): Promise<void> {
    await must(this.guest, `echo '${JSON.stringify(command)}' > ${PIPE}`);
  }

  async answer<T>(): Promise<T> {
    const number = ++this.lines;
    const output = await until(this.guest, `sed -n ${number}p ${OUT}`, (text) => text.includes('\n'));
    return JSON.parse(output) as T;
  }

  async copy(from: Place, to: Place): Promise<{ ok: boolean; step?: string; subStep?: string }> {
    await this.send({ do: 'copy', from, to });
    return await this.answer();
  }

  async sum(): Promise<string> {
    await this.send({ do: 'sum' });
    return (await this.answer<{ sum: string }>()).sum;
  }

  async close(): Promise<void> {
    await this.send({ do: 'close' });
    await this.answer();
  }
}

/** `sdxi grant` in a guest, from its start to its end. */
export class Grant {
  readonly rkey: number;
  private readonly guest: Guest;

  private constructor(guest: Guest, rkey: number) {
    this.guest = guest;
    this.rkey = rkey;
  }

  static async start(guest: Guest, address: number, { to, fill }: { to: number; fill: number }): Promise<Grant> {
    await must(guest, 'rm -f /tmp/grant.out; touch /tmp/grant.out');
    await guest.start(`exec sdxi grant 0x${address.toString(16)} 1m --to ${to} --fill ${fill}`, '/tmp/grant.out');
    const output = await until(guest, 'cat /tmp/grant.out', (text) => /rkey=\d+/.test(text) || /error|hint/.test(text));
    const rkey = /granted rkey=(\d+)/.exec(output)?.[1];
    if (rkey === undefined) throw new Error(output);
    return new Grant(guest, Number(rkey));
  }

  /** Withdraws the consent. @returns SHA-256 of what the memory holds by then */
  async end(): Promise<string> {
    await must(this.guest, 'kill -INT $(pidof node)');
    const output = await until(this.guest, 'cat /tmp/grant.out', (text) => /withdrawn/.test(text));
    await until(this.guest, 'pidof node || echo none', (text) => text.includes('none'));
    return /sha256 ([0-9a-f]{64})/.exec(output)?.[1] ?? output;
  }
}
