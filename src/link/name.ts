// Names of links, and of the interfaces that they join. Pure.

import { type FieldViolation, invalidFields } from '../errors.ts';

const COLLECTION = 'links/';
const INTERFACES = 'interfaces/';
const ID = /^[a-z][a-z0-9-]{0,62}$/;
const ID_RULE = "must have 1 to 63 lower-case letters, digits or '-', a letter first";

/** Resource name of a link. */
export function linkName(id: string): string {
  return `${COLLECTION}${id}`;
}

/** Id in a resource name. Throws INVALID_ARGUMENT on `field` for anything that is not `links/{link}`. */
export function linkId(name: string, field = 'name'): string {
  const id = name.startsWith(COLLECTION) ? name.slice(COLLECTION.length) : undefined;
  if (id === undefined) throw invalidFields([{ field, description: 'must have the form links/{link}' }]);
  const problems = idProblems(id, field);
  if (problems.length > 0) throw invalidFields(problems);
  return id;
}

/** Violations of a link id given by a client. */
export function idProblems(id: string, field = 'link_id'): FieldViolation[] {
  if (ID.test(id)) return [];
  return [{ field, description: id === '' ? 'must be given' : ID_RULE }];
}

/** Id of the interface in `interfaces/{interface}`; undefined when it has not that form. Whether there can be one is not asked. */
export function joinedId(name: string): string | undefined {
  const id = name.startsWith(INTERFACES) ? name.slice(INTERFACES.length) : '';
  return /^[A-Za-z0-9][A-Za-z0-9._-]{0,14}$/.test(id) ? id : undefined;
}
