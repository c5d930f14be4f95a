import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { listFunctions, openBus } from '../../bus/index.js';
import { IovaSpace, SdxiDriver } from '../../driver/index.js';
import { AbortError, ArgumentError, TimeoutError } from '../../errors.js';
import { Access } from '../../memory/address-space.js';
import { allocateRegion } from '../../memory/region.js';
import { type CommandModule, withJson } from '../command.js';
import { existingFile, integerIn, parseSize } from '../parse.js';
import { interruptible } from '../signals.js';
import type { Terminal } from '../terminal.js';

interface GrantOptions {
  to: number;
  vector?: number;
  fill?: number;
  file?: string;
  seconds?: number;
}

const HELP = `
The memory is this program's own, filled as asked, and mapped for its function at ADDRESS. Another function of the group then names it with
an AKey of { tgt_sfunc: the handle of this function, rkey: the number printed }. The consent ends with the program (Ctrl-C, SIGTERM, or
--seconds): it is withdrawn and the function told, and what the memory holds by then is printed as a SHA-256.

  sdxi grant 0x100000000 1m --to 2 --fill 0xbb vfio:0000:00:01.0`;

const PAGE_BYTES = 4096;

export const grantCommand: CommandModule = (program, terminal) => {
  const command = program
    .command('grant')
    .description('let another function of the group reach memory of this one, until the program ends')
    .argument('<address>', 'DMA address at which the memory lies for the function', parseAddress)
    .argument('<length>', 'how much memory', parseSize)
    .argument('[uri]', 'function that consents; default the only PCI function of this machine')
    .requiredOption('--to <sfunc>', 'handle of the function that may use it (CAP0.sfunc)', integerIn(1, 65535))
    .option('--vector <n>', 'interrupt vector that it may raise', integerIn(0, 2047))
    .option('--fill <byte>', 'what the memory is filled with', parseByte)
    .option('--file <path>', 'file whose bytes the memory begins with')
    .option('--seconds <n>', 'withdraw the consent after so long', integerIn(1, 86_400));
  withJson(command)
    .addHelpText('after', HELP)
    .action(async (address: number, length: number, uri: string | undefined, options: GrantOptions) => {
      let withdrawn = false;
      try {
        await interruptible(async (signal) => {
          await run(terminal, { address, length, uri: uri ?? onlyFunction() }, options, signal);
          withdrawn = true;
        });
      } catch (error) {
        if (!withdrawn) throw error; // otherwise a signal, the way that it ends
      }
    });
};

function parseAddress(text: string): number {
  const value = Number(text);
  if (/^(0x[0-9a-f]+|\d+)$/i.test(text) && value >= 2 ** 32 && value < 2 ** 47 && value % PAGE_BYTES === 0) return value;
  throw new ArgumentError(`${text} is no address for a page`, { hint: 'give a multiple of 4096 from 2^32 to 2^47, such as 0x100000000' });
}

function parseByte(text: string): number {
  const value = Number(text);
  if (/^(0x[0-9a-f]{1,2}|\d{1,3})$/i.test(text) && value <= 255) return value;
  throw new ArgumentError(`${text} is no byte`, { hint: 'give 0 … 255, or 0x00 … 0xff' });
}

function onlyFunction(): string {
  const found = listFunctions().filter(({ uri }) => uri.startsWith('vfio:'));
  if (found.length === 1) return found[0].uri;
  throw new ArgumentError(found.length === 0 ? 'there is no PCI function here' : `there are ${found.length} PCI functions here`, {
    hint: 'name the function that is to consent; sdxi list shows what there is',
  });
}

async function run(
  terminal: Terminal,
  { address, length, uri }: { address: number; length: number; uri: string },
  { to, vector, fill, file, seconds }: GrantOptions,
  signal: AbortSignal,
): Promise<void> {
  const region = allocateRegion(length);
  if (fill !== undefined) region.bytes.fill(fill);
  if (file !== undefined) {
    const contents = readFileSync(existingFile(file));
    if (contents.length > length)
      throw new ArgumentError(`${file} has ${contents.length} bytes, more than ${length}`, { hint: 'grant more' });
    region.bytes.set(contents);
  }
  // Taken before the driver looks for addresses of its own.
  const iovas = new IovaSpace();
  iovas.take(address, region.byteLength);
  const driver = await SdxiDriver.open(await openBus(uri), { iovas, signal });
  try {
    const { vectors } = driver.bus;
    if (vector !== undefined && vector >= vectors)
      throw new ArgumentError(`the function has no interrupt vector ${vector}`, { hint: `vectors are 0 … ${vectors - 1}` });
    driver.map(region, Access.READ_WRITE, address);
    const rkey = driver.grant({ to, vector });
    const { sfunc } = driver.capabilities;
    const place = { function: uri, sfunc, rkey, to, address: `0x${address.toString(16)}`, byteLength: length };
    // Who reads JSON needs the key before the end, too.
    const say = (text: string) => (terminal.json ? terminal.note(text) : terminal.print(text));
    say(`granted rkey=${rkey} sfunc=${sfunc} to=${to} address=${place.address} length=${length} function=${uri}`);
    await ended(driver, signal, seconds);
    await driver.revoke(rkey);
    const sha256 = createHash('sha256').update(region.bytes.subarray(0, length)).digest('hex');
    terminal.result({ ...place, sha256 });
    terminal.print(`withdrawn; sha256 ${sha256}`);
  } finally {
    await driver.close();
  }
}

/** As long as a timer can run, 24 days. */
const FOREVER_S = (2 ** 31 - 1) / 1000;

/** Waits for the signal or so many seconds. @throws BusLostError when the function goes away meanwhile */
async function ended({ bus }: SdxiDriver, signal: AbortSignal, seconds = FOREVER_S): Promise<void> {
  bus.ref();
  try {
    await bus.wait(() => false, { what: 'the end', timeoutMs: seconds * 1000, vector: 0, mode: 'interrupt', signal });
  } catch (error) {
    if (!(error instanceof TimeoutError || error instanceof AbortError)) throw error;
  } finally {
    bus.unref();
  }
}
