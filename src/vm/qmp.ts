import { createConnection } from 'node:net';
import { SdxiError } from '../errors.js';

/** Whole lines of JSON out of a stream of text. */
async function* messages(chunks: AsyncIterable<string>): AsyncGenerator<Record<string, unknown>> {
  let text = '';
  for await (const chunk of chunks) {
    text += chunk;
    for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n')) {
      yield JSON.parse(text.slice(0, at)) as Record<string, unknown>;
      text = text.slice(at + 1);
    }
  }
}

/**
 * One command of QEMU's own monitor protocol (QMP). Events that come between are passed over.
 * @returns what QEMU returns
 * @throws SdxiError ERR_SDXI_SYSTEM when QEMU refuses it or goes away
 */
export async function qmpCommand(socketPath: string, execute: string): Promise<unknown> {
  const socket = createConnection(socketPath);
  socket.setEncoding('utf8');
  const send = (command: string) => socket.write(`${JSON.stringify({ execute: command })}\n`);
  try {
    let asked = 0;
    for await (const message of messages(socket)) {
      if (message.error) throw new SdxiError('ERR_SDXI_SYSTEM', `QEMU refuses ${execute}: ${JSON.stringify(message.error)}`);
      if ('QMP' in message) send('qmp_capabilities');
      if (!('return' in message)) continue;
      if (asked++ > 0) return message.return;
      send(execute);
    }
    throw new SdxiError('ERR_SDXI_SYSTEM', `QEMU went away while asked for ${execute}`);
  } finally {
    socket.destroy();
  }
}
