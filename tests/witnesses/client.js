// A client in Node, written from the vendor's page and from nothing of this package's. Reads calls from standard input,
// as JSON: [path, fields, names of the signed fields]; order/check is a GET. Prints the replies' bodies as a list of texts.
'use strict'
const crypto = require('crypto')
const fs = require('fs')

const { WITNESS_APPKEY: appkey, WITNESS_APPSECRET: appsecret, WITNESS_BASE_URL: baseUrl } = process.env
const md5 = (text) => crypto.createHash('md5').update(text, 'utf8').digest('hex')

async function call (path, fields, signed) {
  const sign = md5(md5(appkey + signed.map((name) => fields[name]).join('')) + appsecret)
  const form = new URLSearchParams({ ...fields, appkey, sign })
  const reply = path === 'order/check'
    ? await fetch(`${baseUrl + path}?${form}`)
    : await fetch(baseUrl + path, { method: 'POST', body: form })
  return await reply.text()
}

async function main () {
  const bodies = []
  for (const given of JSON.parse(fs.readFileSync(0, 'utf8'))) bodies.push(await call(...given))
  console.log(JSON.stringify(bodies))
}

main()
