import { ArgumentError } from '../errors.js';
import { FAULTS, type Fault, findFault, PARAMETERS, type Parameter } from './catalogue.js';

/** A fault and what was said of it. */
export interface PlannedFault {
  readonly fault: Fault;
  readonly values: Readonly<Partial<Record<Parameter, number>>>;
}

const MOST = 2 ** 31 - 1;

function refuse(text: string, place: string, why: string, hint: string): never {
  throw new ArgumentError(`fault plan "${text}": ${place} ${why}`, { hint, fields: { plan: text, place } });
}

/**
 * Reads a fault plan: `F-2:every=10,context=3;F-44`.
 * @throws ArgumentError that names the place and what could stand there; nothing is in force then
 */
export function parseFaults(text: string): PlannedFault[] {
  const parts = text
    .split(';')
    .map((part) => part.trim())
    .filter((part) => part !== '');
  return parts.map((part) => {
    const colon = part.indexOf(':');
    const id = colon < 0 ? part : part.slice(0, colon);
    const fault = findFault(id);
    if (!fault) return refuse(text, `"${id}"`, 'is no fault', `faults are F-1 … F-${FAULTS.length}: sdxi fault --list`);
    if (!fault.provokable) return refuse(text, fault.id, `cannot be provoked: ${fault.reason}`, 'sdxi fault --list shows which can');
    return { fault, values: { ...fault.defaults, ...parameters(text, fault, colon < 0 ? '' : part.slice(colon + 1)) } };
  });
}

function parameters(text: string, fault: Fault, list: string): Partial<Record<Parameter, number>> {
  const values: Partial<Record<Parameter, number>> = {};
  const known =
    fault.parameters.length > 0
      ? `${fault.id} knows ${fault.parameters.join(', ')}`
      : `${fault.id} knows none: it is a choice of the function`;
  for (const entry of list.split(',').filter((each) => each.trim() !== '')) {
    const [name, value, ...rest] = entry.split('=').map((each) => each.trim());
    const place = `"${entry.trim()}" of ${fault.id}`;
    if (!fault.parameters.includes(name as Parameter)) refuse(text, place, 'is no parameter', known);
    const least = name === 'every' || name === 'count' ? 1 : 0;
    const number = value === undefined || rest.length > 0 || !/^\d+$/.test(value) ? Number.NaN : Number(value);
    if (!(number >= least && number <= MOST)) {
      refuse(text, place, 'has no valid value', `${name} (${PARAMETERS[name as Parameter]}) is a whole number from ${least} to ${MOST}`);
    }
    if (values[name as Parameter] !== undefined) refuse(text, place, 'is there twice', 'say it once');
    values[name as Parameter] = number;
  }
  return values;
}
