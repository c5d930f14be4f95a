// @ts-nocheck: what it imports is there in the guest only.
// Runs in a guest: a member of a group of functions. Takes one command a line from a named pipe and answers each with one line of JSON on
// standard output.
//   {"do":"open"}                                        the function is brought up; 1 MiB of memory, filled with `fill`
//   {"do":"copy","context":n,"from":place,"to":place}    place: {"own":true} or {"sfunc":n,"rkey":n,"address":n}
//   {"do":"sum"}                                         SHA-256 of the memory
//   {"do":"close"}
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { openBus } from '/opt/sdxi/dist/bus/index.js';
import { SdxiDriver } from '/opt/sdxi/dist/driver/index.js';

const BYTES = 1 << 20;
const [pipe, uri, fill] = process.argv.slice(2);

const driver = await SdxiDriver.open(await openBus(uri));
const own = driver.allocate(BYTES, 4096);
own.bytes.fill(Number(fill));
const contexts = [await driver.createContext(), await driver.createContext()];
const answer = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

/** Address and AKey of a place; the key is freed again by the second function. */
function place(context, { own: mine, sfunc, rkey, address }) {
  if (mine) return [own.iova, 0];
  return [address, context.akeys.allocate({ tgt_sfunc: sfunc, rkey })];
}

async function copy({ context: which = 1, from, to }) {
  const context = contexts[which - 1];
  const [source, sourceKey] = place(context, from);
  const [target, targetKey] = place(context, to);
  try {
    const batch = context.begin(1);
    batch.copy(BYTES, source, target, 0, sourceKey, targetKey);
    await batch.submit().done;
    answer({ ok: true });
  } catch (error) {
    answer({ ok: false, code: error.code, step: error.fields?.step, subStep: error.fields?.subStep });
  } finally {
    for (const key of [sourceKey, targetKey]) if (key !== 0) await context.updateKey(key, undefined).catch(() => {});
  }
}

answer({ ready: true, iova: own.iova, sfunc: driver.capabilities.sfunc });
const held = setInterval(() => {}, 1000);
for (;;) {
  // A pipe ends with each writer; the next opens it again.
  for await (const line of createInterface({ input: createReadStream(pipe) })) {
    const command = JSON.parse(line);
    if (command.do === 'copy') await copy(command);
    else if (command.do === 'sum') answer({ sum: createHash('sha256').update(own.bytes).digest('hex') });
    else if (command.do === 'fill') own.bytes.fill(command.byte);
    else if (command.do === 'close') {
      await driver.close();
      clearInterval(held);
      answer({ closed: true });
      process.exit(0);
    }
  }
}
