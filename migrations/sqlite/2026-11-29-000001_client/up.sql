-- Here the index of all times holds the client already; PostgreSQL gets an index of clients in this step.
SELECT 1;
