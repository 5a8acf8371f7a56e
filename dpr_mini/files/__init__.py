"""Files: `durable` keeps them over a power cut, `rows` are this project's own, `foreign` are the user's."""
