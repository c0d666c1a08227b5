// A program with @microsoft/microsoft-graph-client: prints what it got, as JSON.
// Arguments: the folder of the client, the host, a token, and the skuId of a product with free units.
import { createRequire } from "node:module";

const [folder, origin, token, sku] = process.argv.slice(2);
const require = createRequire(folder + "/");
const { BatchRequestContent, BatchResponseContent, Client, PageIterator } = require(
  "@microsoft/microsoft-graph-client",
);

const client = Client.init({
  baseUrl: origin + "/",
  customHosts: new Set([new URL(origin).hostname]),
  authProvider: (done) => done(null, token),
});
const found = {};

const ids = [];
const page = await client.api("/users").top(3).orderby("displayName").select("id").get();
await new PageIterator(client, page, (user) => ids.push(user.id) > 0).iterate();
found.all = ids;
const ann = await client.api("/users").filter("userPrincipalName eq 'ann@contoso.example'").get();
found.ann = ann.value.map((user) => user.id);
const without = await client
  .api("/users")
  .header("ConsistencyLevel", "eventual")
  .filter("assignedLicenses/$count eq 0")
  .count(true)
  .get();
found.without = without["@odata.count"];
found.searched = (
  await client.api("/users").header("ConsistencyLevel", "eventual").search('"displayName:smi"').get()
).value.map((user) => user.displayName);
found.expanded = (await client.api("/groups/sales").expand("members($select=id)").get()).members.map(
  (member) => member.id,
);
found.details = (await client.api("/users/ann@contoso.example/licenseDetails").get()).value.map(
  (detail) => detail.skuId,
);
found.beta = (await client.api("/groups/sales").version("beta").get()).displayName;

const dee = await client.api("/users").post({
  accountEnabled: true,
  displayName: "Dee",
  mailNickname: "dee",
  userPrincipalName: "dee@contoso.example",
  usageLocation: "DE",
  passwordProfile: { password: "of Dee" },
});
const given = await client
  .api(`/users/${dee.id}/assignLicense`)
  .post({ addLicenses: [{ skuId: sku, disabledPlans: [] }], removeLicenses: [] });
found.given = given.assignedLicenses.map((licence) => licence.skuId);
await client.api(`/users/${dee.id}`).update({ displayName: "Dee II" });
await client
  .api("/groups/sales/members/$ref")
  .post({ "@odata.id": `https://graph.microsoft.com/v1.0/directoryObjects/${dee.id}` });
await client.api(`/groups/sales/members/${dee.id}/$ref`).delete();
found.updated = (await client.api(`/users/${dee.id}`).select("displayName").get()).displayName;

const content = new BatchRequestContent([
  { id: "1", request: new Request(origin + "/users/ann?$select=id", { method: "GET" }) },
  { id: "2", request: new Request(origin + "/users/nobody", { method: "GET" }) },
]);
const answer = new BatchResponseContent(
  await client.api("/$batch").post(await content.getContent()),
);
found.batch = [answer.getResponseById("1").status, answer.getResponseById("2").status];

let delta = await client.api("/users/delta").select("displayName").get();
await client.api(`/users/${dee.id}`).delete();
delta = await client.api(delta["@odata.deltaLink"]).get();
found.delta = delta.value.map((user) => [user.id === dee.id, user["@removed"]?.reason]);

try {
  await client.api("/users").query({ $skip: 3 }).get();
} catch (error) {
  found.error = [error.statusCode, error.code, Boolean(error.message), Boolean(error.requestId)];
}
console.log(JSON.stringify(found));
