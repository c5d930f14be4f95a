/**
 * Every error this package throws on purpose: one class per kind, a stable `code`, fields instead of prose, and a hint that names the cure.
 * Device-side conditions (error-log records, completion errors) reach the caller through {@link ContextError}.
 */
import { getSystemErrorMap } from 'node:util';

/** The stable codes. A code never changes its meaning; new ones may be added. */
export type SdxiErrorCode =
  | 'ERR_SDXI_ABORTED'
  | 'ERR_SDXI_ARGUMENT'
  | 'ERR_SDXI_ATOMIC'
  | 'ERR_SDXI_BUSY'
  | 'ERR_SDXI_BUS_LOST'
  | 'ERR_SDXI_CLOSED'
  | 'ERR_SDXI_CONTEXT'
  | 'ERR_SDXI_DATA_ACCESS'
  | 'ERR_SDXI_DETACHED'
  | 'ERR_SDXI_ENCODE'
  | 'ERR_SDXI_FUNCTION'
  | 'ERR_SDXI_KEY'
  | 'ERR_SDXI_MAPPING'
  | 'ERR_SDXI_NOT_REGISTERED'
  | 'ERR_SDXI_RESOURCE'
  | 'ERR_SDXI_RING'
  | 'ERR_SDXI_STATE'
  | 'ERR_SDXI_SYSTEM'
  | 'ERR_SDXI_TIMEOUT'
  | 'ERR_SDXI_TRANSLATION'
  | 'ERR_SDXI_UNSUPPORTED'
  | 'ERR_SDXI_URI'
  | 'ERR_SDXI_VALIDATION';

export type ErrorFields = Readonly<Record<string, unknown>>;

export interface SdxiErrorOptions {
  /** What the reader can do about it, in one sentence. */
  hint?: string;
  /** Facts, as own properties of the error: function, context, index, step, address, … */
  fields?: ErrorFields;
  cause?: unknown;
}

/** Root of all errors of this package. */
export class SdxiError extends Error {
  readonly code: SdxiErrorCode;
  readonly hint?: string;
  fields: ErrorFields;

  constructor(code: SdxiErrorCode, message: string, options: SdxiErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.code = code;
    this.hint = options.hint;
    this.fields = options.fields ?? {};
  }

  /** Says which of several things it is about: `item 3 of the batch: …`. */
  locate(place: string, fields: ErrorFields): this {
    this.message = `${place}: ${this.message}`;
    this.fields = { ...this.fields, ...fields };
    return this;
  }

  toJSON(): Record<string, unknown> {
    const fields = Object.fromEntries(Object.entries(this.fields).map(([k, v]) => [k, typeof v === 'bigint' ? `0x${v.toString(16)}` : v]));
    return { name: this.name, code: this.code, message: this.message, hint: this.hint, ...fields };
  }
}

/** A caller's argument that cannot be right, whatever the state. */
export class ArgumentError extends SdxiError {
  constructor(message: string, options: SdxiErrorOptions = {}) {
    super('ERR_SDXI_ARGUMENT', message, options);
  }
}

/** A descriptor, structure or register value that cannot be expressed (ref §13.4). */
export class EncodeError extends SdxiError {
  constructor(message: string, options: SdxiErrorOptions = {}) {
    super('ERR_SDXI_ENCODE', message, options);
  }
}

/** A wait that reached its deadline. */
export class TimeoutError extends SdxiError {
  constructor(what: string, timeoutMs: number, options: SdxiErrorOptions = {}) {
    super('ERR_SDXI_TIMEOUT', `${what}: no answer within ${timeoutMs} ms`, { ...options, fields: { ...options.fields, timeoutMs } });
  }
}

/** A wait that its AbortSignal ended. */
export class AbortError extends SdxiError {
  constructor(what: string, options: SdxiErrorOptions = {}) {
    super('ERR_SDXI_ABORTED', `${what}: aborted`, options);
  }
}

/** A handle that was used after `close()`. */
export class ClosedError extends SdxiError {
  constructor(what: string, options: SdxiErrorOptions = {}) {
    super('ERR_SDXI_CLOSED', `${what} is closed`, { hint: 'open a new one; a closed handle stays closed', ...options });
  }
}

/** The function cannot be reached any more: its thread, process or device is gone. */
export class BusLostError extends SdxiError {
  constructor(message: string, options: SdxiErrorOptions = {}) {
    super('ERR_SDXI_BUS_LOST', message, { hint: 'close this handle and open the function again; work in flight is lost', ...options });
  }
}

/** A system call that failed. Fields: `call`, `errno`. */
export class SystemError extends SdxiError {
  constructor(call: string, errno: number, options: SdxiErrorOptions = {}) {
    const [name, meaning] = getSystemErrorMap().get(-errno) ?? [];
    const told = name === undefined ? '' : ` (${name}: ${meaning})`;
    super('ERR_SDXI_SYSTEM', `${call} failed with errno ${errno}${told}`, { ...options, fields: { ...options.fields, call, errno } });
  }
}

/** A function that refuses or left its working state. Fields: `function`, `state`. */
export class FunctionError extends SdxiError {
  constructor(message: string, options: SdxiErrorOptions = {}) {
    super('ERR_SDXI_FUNCTION', message, options);
  }
}

/** A descriptor or context that the function stopped. Fields: `function`, `context`, `index`, `step`, `subStep`, `operand`, `address`. */
export class ContextError extends SdxiError {}
